#!/bin/sh
# An exec handler whose effect happens once, however often its job is run.
#
#   export CHARGES=/var/tmp/charges
#   millrace-worker run --queue payments='exec:examples/exec-handler/charge.sh'
#   millrace-producer submit --queue payments --wait 'alice 250'
#
# Payload (stdin): ACCOUNT CENTS. Result (stdout): a receipt. Exit: 0 done, 65 a payload that will
# never be right, 75 try again later. What it says on stderr stands in the worker's log, and its end
# in the job's error.
#
# Millrace runs a job at least once. After a crash, or when a lease ran out because a machine stood
# still, the same job comes again, and the older attempt may even wake up while the newer one runs.
# What Millrace can't undo is the effect outside, so the handler makes it safe with the two names
# that it is given:
#
#   MILLRACE_JOB_ID  the same for every attempt at a job, unique over all brokers: the idempotency
#                    key. The receipt is kept under it, and a job that has one is not done again.
#   MILLRACE_EPOCH   a number that grows with each attempt at a job: the fence. The newest that was
#                    seen is kept, and an attempt with an older one does not come through.
#
# The lock and the files stand for a database: there, the receipt has a unique index on the job id,
# and the fence is a condition of the UPDATE.
set -eu

store=${CHARGES:?is the directory that holds the receipts}
receipt=$store/receipts/$MILLRACE_JOB_ID
fence=$store/fences/$MILLRACE_JOB_ID

newest_epoch() { cat "$fence" 2>/dev/null || echo 0; }

# Written whole or not at all, even if the power fails in between.
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

# Here, without the lock, a real handler does what takes long: it asks a bank, or makes a document.
# Meanwhile a newer attempt may begin, and even end.

flock 9
show_receipt_if_done
refuse_if_older
charge
cat "$receipt"
