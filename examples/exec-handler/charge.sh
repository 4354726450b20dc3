#!/bin/sh
# An exec handler that applies its effect once, however often its job runs.
#
#   export CHARGES=/var/tmp/charges
#   millrace-worker run --queue payments='exec:examples/exec-handler/charge.sh'
#   millrace-producer submit --queue payments --wait 'alice 250'
#
# Payload (stdin): ACCOUNT CENTS. Result (stdout): a receipt. Exit: 0 done, 65 an invalid
# payload (permanent failure), 75 retry later. The worker logs stderr, and its end becomes part of
# the job's error.
#
# Millrace runs a job at least once. After a crash, or when a lease expires because a machine was
# suspended, the job runs again, and the older attempt may even resume while the newer one runs.
# Millrace cannot undo external effects, so the handler makes them safe with two variables:
#
#   MILLRACE_JOB_ID  the same for every attempt of a job, unique across all brokers: the idempotency
#                    key. The receipt is stored under it, and a job with a receipt is not repeated.
#   MILLRACE_EPOCH   a number that grows with each attempt of a job: the fencing token. The newest
#                    one is stored, and an attempt with an older one is rejected.
#
# The lock and the files stand in for a database. There, the receipt would have a unique index on
# the job ID, and the fencing token would be a condition of the UPDATE.
set -eu

store=${CHARGES:?is the directory that holds the receipts}
receipt=$store/receipts/$MILLRACE_JOB_ID
fence=$store/fences/$MILLRACE_JOB_ID

newest_epoch() { cat "$fence" 2>/dev/null || echo 0; }

# Atomic, even across a power failure.
write() { printf '%s\n' "$2" >"$1.$$" && sync "$1.$$" && mv "$1.$$" "$1"; }

show_receipt_if_done() {
  if [ -e "$receipt" ]; then
    cat "$receipt"
    exit 0
  fi
}

refuse_if_older() {
  if [ "$MILLRACE_EPOCH" -lt "$(newest_epoch)" ]; then
    echo "a newer attempt at this job has begun" >&2
    exit 75
  fi
}

# The receipt is the charge: an account is the sum of its receipts, so one rename is the whole effect.
charge() { write "$receipt" "charged $cents to $account for job $MILLRACE_JOB_ID"; }

mkdir -p "$store/receipts" "$store/fences"
read -r account cents || true
case $account in '' | *[!a-z0-9]*) echo "the account's name is not a-z 0-9" >&2 && exit 65 ;; esac
case $cents in '' | *[!0-9]*) echo "the amount is not a number of cents" >&2 && exit 65 ;; esac

exec 9>"$store/lock"
flock 9
show_receipt_if_done
refuse_if_older
write "$fence" "$MILLRACE_EPOCH"
flock -u 9

# Here, without the lock, a real handler does its slow work, such as calling a bank.
# Meanwhile a newer attempt may begin, and even end.

flock 9
show_receipt_if_done
refuse_if_older
charge
cat "$receipt"
