"""What the tests across hosts share: a cluster on hosts of its own, started by scripts/cluster.sh over
ssh as a user would, and a load from the operator's desk whose books must balance."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
from harness import BIN, ROOT, read_lines, wait_until  # noqa: E402, F401
from network import Network  # noqa: E402

HEARTBEAT = 0.25
LIVENESS = 3
DETECTED = HEARTBEAT * LIVENESS + 1  # seconds until a silent worker must be known to be gone
LEASE = 2.0


class HostsCase(harness.Case):
    names = ("b", "w1", "w2")
    brokers = ("b",)  # of these, those with role=broker
    lines = ()  # of the hosts file; {b} is the address of host b
    broker_config = f'heartbeat = "{HEARTBEAT * 1000:.0f}ms"\nliveness = {LIVENESS}\nlease = "{LEASE * 1000:.0f}ms"\n' \
        'backoff = "10ms..100ms"\nmax-attempts = 255\ncrash-limit = 255\n'

    def setUp(self):
        super().setUp()
        self.network = Network(self.dir, self.names)
        self.addCleanup(self.network.close)
        addresses = {name: host.address for name, host in self.network.hosts.items()}
        (self.dir / "lab.hosts").write_text("".join(line.format(**addresses) + "\n" for line in self.lines))
        (self.dir / "broker.toml").write_text(self.broker_config)

    def host(self, name):
        return self.network.hosts[name]

    # cluster.sh

    def cluster_command(self, *arguments):
        return self.network.desk.command(
            ROOT / "scripts/cluster.sh", "-f", self.dir / "lab.hosts", "--dir", self.dir / "cluster", "--remote-dir",
            self.dir / "remote", "--ssh", self.network.ssh, *arguments, "--json")

    def cluster(self, *arguments, code=0, deadline=120):
        """A command of cluster.sh; its report."""
        done = subprocess.run(self.cluster_command(*arguments), capture_output=True, text=True, timeout=deadline,
                              env={**os.environ, "MILLRACE_BIN": str(BIN)}, check=False)
        with open(self.dir / "cluster.log", "a", encoding="utf-8") as log:
            log.write(f"--- {arguments} → {done.returncode}\n{done.stderr}")
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return json.loads(done.stdout) if done.stdout else None

    def up(self, *flags, **options):
        return self.cluster("up", "--config", f"broker={self.dir}/broker.toml", *flags, **options)

    @staticmethod
    def units(report):
        return {(host["host"], unit["name"]): unit["pid"] for host in report["hosts"] for unit in host["units"]
                if unit["state"] != "dead"}

    def pid(self, name, unit):
        """Of a program on a host."""
        return int((self.dir / "remote/lab" / self.host(name).address / "run" / f"{unit}.pid").read_text().split()[0])

    # A broker, asked on its own host; the first, unless another is named.

    def status(self, name=None):
        done = subprocess.run(self.host(name or self.brokers[0]).command(
            BIN / "millrace-broker", "status", "--http", "127.0.0.1:5580", "--json"),
            capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def registered(self, name=None):
        status = self.status(name)
        return sorted(worker["name"] for worker in status["workers"] if worker["connected"]) if status else []

    def wait_status(self, condition, what, deadline=harness.DEADLINE, name=None):
        """Seconds until a broker's status fulfils the condition."""
        began = time.monotonic()

        def fulfilled():
            status = self.status(name)
            return status is not None and condition(status)

        wait_until(fulfilled, deadline, what)
        return time.monotonic() - began

    # Load

    def frontends(self):
        return ",".join(f"{self.host(name).address}:5570" for name in self.brokers)

    def keys(self, own=None):
        """What a client shows; without a key of its own that of the operator's."""
        keys = self.dir / "cluster/keys"
        return ["--curve-key", own or keys / "client", "--curve-broker", keys / "broker.pub"]

    def load(self, rate, count, *flags, name="load", queue="q"):
        """A load from the desk, in the background, with a ledger."""
        command = self.network.desk.command(
            BIN / "millrace-producer", "load", "--broker", self.frontends(), *self.keys(),
            "--queue", queue, "--rate", rate, "--count", count, "--size", 256, "--verify", "--ledger",
            self.dir / f"{name}.ledger", "--hold", "--json", *flags)
        return harness.Process(self, name, command).start()

    def done_of(self, load, count=None, deadline=120):
        """The load ends well: everything sent is confirmed and completed once, and the totals reconcile.
        Without a count it still sends, and is told to stop."""
        if count is None:
            self.assertTrue(load.running(), "what was to happen under load has outlasted it, so it has shown nothing")
            load.send_signal(signal.SIGTERM)
        self.assertEqual(load.wait(deadline), 0, load.text()[-3000:])
        report = load.report()
        count = report["sent"] if count is None else count
        self.assertEqual((report["sent"], report["confirmed"], report["completed"]), (count, count, count), report)
        self.assertEqual((report["lost"], report["duplicates"], report["dead"], report["rejected"], report["unknown"]),
                         (0, 0, 0, 0, 0), report)
        ledger = self.dir / f"{load.name}.ledger"
        audit = subprocess.run(self.network.desk.command(
            BIN / "millrace-producer", "audit", "--broker", self.frontends(), *self.keys(), "--ledger", ledger,
            "--json"), capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(audit.returncode, 0, audit.stdout + audit.stderr)
        for name in self.brokers:
            totals = self.status(name)["totals"]
            self.assertEqual(totals["done"], totals["accepted"], "completions are not exactly one for each job")
        return report

    def figure(self, text):
        print(f"{time.strftime('%Y-%m-%d')} {text}", flush=True)
