"""Keys across hosts: cluster.sh makes and distributes them, and nobody else gets in. A key that is
revoked stops working within a moment, and the rest of the load does not notice."""
import subprocess
import time
import unittest

import network
from hosts_harness import BIN, HostsCase, harness


class KeysTest(HostsCase):
    names = ("b", "w1", "w2")
    lines = ("{b} role=broker", "{w1}", "{w2}")

    def submit(self, *keys):
        """One job from the desk, with these keys."""
        return subprocess.run(self.network.desk.command(
            BIN / "millrace-producer", "submit", "--broker", f"{self.host('b').address}:5570", "--queue", "q",
            "--connect-timeout", "2s", "payload", *keys), capture_output=True, timeout=60, check=False)

    def made(self, name):
        """A key that the cluster has never heard of."""
        network.call(BIN / "millrace-broker", "keygen", self.dir / name)
        return self.dir / name

    def revoke(self, name):
        """As docs/OPERATIONS.md says it."""
        if name.startswith("host-"):
            lines = (self.dir / "lab.hosts").read_text().splitlines(keepends=True)
            (self.dir / "lab.hosts").write_text("".join(line for line in lines if name[5:] not in line))
        network.call(BIN / "millrace-broker", "keys", "remove", "--allow", self.dir / "cluster/keys/allow", "--name", name)
        self.up()

    def test_a_stranger_a_missing_and_a_wrong_key(self):
        self.up("--queue", "q=echo")
        self.assertEqual(self.submit(*self.keys()).returncode, 0)
        self.assertEqual(self.status()["totals"]["accepted"], 1)
        stranger = self.submit(*self.keys(self.made("stranger")))
        self.assertEqual(stranger.returncode, harness.UNREACHABLE, stranger.stderr)
        self.assertEqual(self.submit().returncode, harness.UNREACHABLE)
        other_broker = self.made("other")
        wrong = self.submit("--curve-key", self.dir / "cluster/keys/client", "--curve-broker", f"{other_broker}.pub")
        self.assertEqual(wrong.returncode, harness.UNREACHABLE)
        # A worker of a stranger's does not get a job either.
        worker = harness.Process(self, "stranger", self.host("w1").command(
            BIN / "millrace-worker", "run", "--broker", f"{self.host('b').address}:5571", "--queue", "q=echo",
            "--name", "stranger", "--connect-timeout", "2s", *self.keys(self.dir / "stranger"))).start()
        self.assertEqual(worker.wait(), harness.UNREACHABLE)
        status = self.status()
        self.assertEqual(status["totals"]["accepted"], 1)
        self.assertNotIn("stranger", self.registered())
        self.assertEqual(len(self.registered()), 2)

    def test_a_revoked_key_is_put_out_and_the_load_goes_on(self):
        self.up("--queue", "q=sleep:5ms")
        count = 8000
        load = self.load(500, count)
        self.wait_status(lambda status: status["totals"]["done"] > count / 10, "a tenth of the load")
        began = time.monotonic()
        self.revoke(f"host-{self.host('w1').address}")
        name = f"{self.host('w1').address}.worker-1"
        self.wait_status(
            lambda status: all(worker["name"] != name or not worker["connected"] for worker in status["workers"]),
            "the revoked worker being put out")
        self.figure("a worker whose key was revoked under load is put out "
                    f"{time.monotonic() - began:.1f} s after that, cluster.sh up included")
        self.done_of(load, count)
        self.assertEqual(self.registered(), [f"{self.host('w2').address}.worker-1"])
        # A second revocation: of the operator's own key.
        self.revoke("client")
        self.assertEqual(self.submit(*self.keys()).returncode, harness.UNREACHABLE)


class GatewayTest(HostsCase):
    names = ("b", "g")
    lines = ("{b} role=broker,worker", "{g} role=gateway")

    def post(self, *flags):
        return subprocess.run(self.network.desk.command(
            "curl", "-sS", "--max-time", "20", "-w", "%{http_code}", "-d", "payload", *flags,
            f"http://{self.host('g').address}:5590/v1/queues/q/jobs?wait=10s"),
            capture_output=True, text=True, timeout=60, check=False).stdout

    def test_a_gateway_wants_its_token_and_shows_its_key(self):
        self.up("--queue", "q=echo")
        token = (self.dir / "cluster/keys/gateway-token").read_text().strip()
        bearer = ("-H", f"Authorization: Bearer {token}")
        harness.wait_until(lambda: self.post(*bearer).endswith("200"), what="a job by HTTP")
        self.assertEqual(self.status()["totals"]["done"], 1)
        self.assertTrue(self.post().endswith("401"))
        self.assertTrue(self.post("-H", "Authorization: Bearer another").endswith("401"))
        self.assertEqual(self.status()["totals"]["accepted"], 1)
        self.cluster("rolling-restart")
        harness.wait_until(lambda: self.post(*bearer).endswith("200"), what="a job by HTTP")


if __name__ == "__main__":
    network.enter()
    unittest.main(verbosity=2)
