#!/usr/bin/python3
"""A stream: handler that applies its effect once, however often its job runs.

    millrace-worker run --queue payments='stream:examples/sqlite-handler/handler.py /var/tmp/bank.db'
    millrace-producer submit --queue payments --wait '{"account": "alice", "cents": 250}'

Millrace runs a job at least once. After a crash, or when a lease expires because a machine was suspended,
the job runs again, and the older attempt may even resume while the newer one runs. So the handler writes
the effect, the job's ID and its epoch in one transaction:

  jobs.id      the idempotency key. A job with a receipt is not repeated: it gets the stored receipt.
  jobs.epoch   the fencing token. The newest epoch is stored, and attempts with an older one are rejected.

Either all three are in the database or none is. docs/HANDLERS.md describes the input and output lines.
"""
import json
import sqlite3
import sys

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, receipt TEXT);
"""


class Superseded(Exception):
    """A newer attempt at this job has begun."""


class Bank:
    def __init__(self, path):
        # Transactions are begun explicitly; if the database is locked, SQLite waits.
        self.db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.executescript(SCHEMA)

    def pay(self, job, epoch, account, cents):
        """Returns the receipt: a new one, or the one of an earlier attempt."""
        receipt = self.begin(job, epoch)
        if receipt is None:
            # Here a real handler does its slow work. Meanwhile a newer attempt may begin, and even end.
            receipt = self.finish(job, epoch, account, cents)
        return receipt

    def begin(self, job, epoch):
        with self.transaction():
            receipt = self.look(job, epoch)
            if receipt is None:
                self.db.execute("INSERT INTO jobs VALUES (?, ?, NULL) ON CONFLICT (id) DO UPDATE SET epoch = ?",
                                (job, epoch, epoch))
            return receipt

    def finish(self, job, epoch, account, cents):
        with self.transaction():
            receipt = self.look(job, epoch)
            if receipt is None:
                receipt = f"charged {cents} to {account} for job {job}"
                self.db.execute("INSERT INTO accounts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET cents = cents + ?",
                                (account, cents, cents))
                self.db.execute("UPDATE jobs SET receipt = ? WHERE id = ?", (receipt, job))
            return receipt

    def look(self, job, epoch):
        """The receipt of this job, if it has one; Superseded if a newer epoch has been here."""
        newest, receipt = self.db.execute("SELECT epoch, receipt FROM jobs WHERE id = ?", (job,)).fetchone() or (0, None)
        if receipt is None and newest > epoch:
            raise Superseded
        return receipt

    def transaction(self):
        self.db.execute("BEGIN IMMEDIATE")
        return self.db  # commits at the end of `with`, or rolls back


def answer(bank, job):
    try:
        order = json.loads(job["payload"])
        account, cents = order["account"], order["cents"]
        if not (isinstance(account, str) and isinstance(cents, int) and cents > 0):
            raise ValueError("an order has an account and a number of cents")
    except (KeyError, TypeError, ValueError) as error:
        return {"error": f"not an order: {error}", "kind": "permanent"}
    try:
        return {"result": bank.pay(job["id"], job["epoch"], account, cents)}
    except Superseded:
        return {"error": "a newer attempt at this job has begun"}
    except sqlite3.OperationalError as error:
        return {"error": f"the database: {error}"}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: handler.py DATABASE")
    bank = Bank(sys.argv[1])
    for line in sys.stdin:
        if not line.endswith("\n"):
            break  # a part of a job: the worker was killed while writing it
        job = json.loads(line)
        print(json.dumps({"id": job["id"], **answer(bank, job)}), flush=True)


if __name__ == "__main__":
    main()
