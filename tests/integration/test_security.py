"""Who may speak with a broker that asks for keys, who may not, and what each of them is told."""
import json
import stat
import unittest

import msgpack
import zmq

import harness
from harness import BAD_DATA, CANT_CREATE, UNREACHABLE, USAGE, wait_until

CONFIG = 78


class Keys:
    """Key files of a test's broker and of its clients."""

    def __init__(self, case, *friends):
        self.case, self.allow = case, case.dir / "allow"
        for name in ("broker", "stranger", *friends):
            self.make(name)
        for name in friends:
            self.add(name)

    def make(self, name):
        process = self.case.run_program("millrace-broker", "keygen", self.secret(name))
        self.case.assertEqual(process.returncode, 0, process.stderr)

    def secret(self, name):
        return self.case.dir / f"{name}.key"

    def public(self, name):
        return self.case.dir / f"{name}.key.pub"

    def key(self, name):
        return self.public(name).read_text().split()[-1]

    def keys(self, *arguments):
        return self.case.run_program("millrace-broker", "keys", arguments[0], "--allow", self.allow, *arguments[1:])

    def add(self, name):
        process = self.keys("add", self.public(name), "--name", name)
        self.case.assertEqual(process.returncode, 0, process.stderr)

    def remove(self, name):
        process = self.keys("remove", "--name", name)
        self.case.assertEqual(process.returncode, 0, process.stderr)

    @property
    def server(self):
        return ("--curve-key", self.secret("broker"), "--curve-allow", self.allow)

    def client(self, name, broker="broker"):
        return ("--curve-key", self.secret(name), "--curve-broker", self.public(broker))


class KeyFilesTest(harness.Case):
    def test_keygen_writes_a_private_and_a_public_file_once(self):
        secret = self.dir / "k"
        made = self.run_program("millrace-broker", "keygen", secret, "--json")
        self.assertEqual(made.returncode, 0, made.stderr)
        report = json.loads(made.stdout)
        self.assertEqual(stat.S_IMODE(secret.stat().st_mode), 0o600)
        self.assertIn(report["public_key"], (self.dir / "k.pub").read_text())
        self.assertNotIn(report["public_key"], secret.read_text())
        before = secret.read_bytes()
        self.assert_exit(self.run_program("millrace-broker", "keygen", secret), CANT_CREATE, str(secret), "never overwritten")
        secret.unlink()
        self.assert_exit(self.run_program("millrace-broker", "keygen", secret), CANT_CREATE, "k.pub")
        self.assertFalse(secret.exists())
        secret.write_bytes(before)
        self.assert_exit(self.run_program("millrace-broker", "keygen"), USAGE, "FILE")
        self.assert_exit(self.run_program("millrace-broker", "keygen", self.dir / "no" / "k"), CANT_CREATE, "no/k")

    def test_the_list_is_edited(self):
        keys = Keys(self, "ann", "bob")
        listed = json.loads(keys.keys("ls", "--json").stdout)["keys"]
        self.assertEqual([entry["name"] for entry in listed], ["ann", "bob"])
        again = json.loads(keys.keys("add", listed[0]["key"], "--json").stdout)
        self.assertEqual((again["added"], again["changed"], again["count"]), (False, False, 2))
        renamed = json.loads(keys.keys("add", listed[0]["key"], "--name", "anne", "--json").stdout)
        self.assertEqual((renamed["added"], renamed["changed"], renamed["name"]), (False, True, "anne"))
        self.assertEqual(keys.keys("remove", keys.public("bob")).returncode, 0)
        self.assertEqual(keys.keys("ls").stdout.decode(), f"{listed[0]['key']}  anne\n")
        self.assert_exit(keys.keys("remove", keys.public("bob")), BAD_DATA, "keys ls")
        self.assert_exit(keys.keys("remove", "--name", "bob"), BAD_DATA, "bob")
        self.assert_exit(keys.keys("add", "tooshort"), BAD_DATA, "tooshort")
        self.assert_exit(keys.keys("add", keys.secret("bob")), BAD_DATA, "secret-key")
        self.assert_exit(keys.keys("add"), USAGE, "needs a public key")
        self.assert_exit(keys.keys("frobnicate"), USAGE, "frobnicate")
        self.assert_exit(self.run_program("millrace-broker", "keys", "ls"), USAGE, "--allow")
        # A path that could be a key by its length and its letters is a path.
        sly = self.dir / "x" / ("y" * (40 - len(str(self.dir)) - len("/x/.pub")) + ".pub")
        sly.parent.mkdir()
        sly.write_bytes(keys.public("bob").read_bytes())
        self.assertEqual(len(str(sly)), 40)
        self.assertEqual(json.loads(keys.keys("add", sly, "--json").stdout)["key"], keys.key("bob"))
        keys.remove(sly.stem)
        keys.allow.chmod(0o666)
        self.assert_exit(keys.keys("add", keys.public("bob")), CONFIG, "0666", "chmod")


class RefusedToStartTest(harness.Case):
    def serve(self, *flags):
        return self.run_program(*self.broker(*flags).command())

    def test_a_broker_that_would_let_anyone_in(self):
        keys = Keys(self)
        secret = keys.secret("broker")
        self.assert_exit(self.serve("--curve-key", secret), CONFIG, "--curve-allow")
        self.assert_exit(self.serve("--curve-allow", keys.allow), CONFIG, "--curve-key")
        self.assert_exit(self.serve(*keys.server), CONFIG, str(keys.allow), "keys add")
        keys.allow.write_text("not a key\n")
        self.assert_exit(self.serve(*keys.server), CONFIG, f"{keys.allow}:1")
        keys.allow.write_text("")
        keys.allow.chmod(0o622)
        self.assert_exit(self.serve(*keys.server), CONFIG, str(keys.allow), "0622")
        self.assertFalse((self.dir / "broker-data").exists(), "nothing is made")

    def test_beyond_loopback(self):
        keys = Keys(self, "friend")
        beyond = ("--frontend", "tcp://0.0.0.0:" + str(harness.free_ports(1)[0]))
        self.assert_exit(self.serve(*beyond), CONFIG, "--frontend", "--curve-key", "--insecure")
        open_broker = self.broker("--insecure", *beyond, name="open").start()
        self.assertIn("without authentication", open_broker.text())
        open_broker.kill()
        closed = self.broker(*keys.server, *beyond, name="closed").start()
        self.assertNotIn("without authentication", closed.text())
        self.assert_exit(self.serve(*keys.server, "--http", "0.0.0.0:" + str(harness.free_ports(1)[0])), CONFIG,
                         "--http-token")

    def test_key_files_that_are_none(self):
        keys = Keys(self, "friend")
        broker = self.broker(*keys.server).start()
        secret = keys.secret("friend")

        def submit(*flags):
            return self.produce("submit", broker, *flags, "--queue", "q", "x")

        secret.chmod(0o640)
        self.assert_exit(submit(*keys.client("friend")), CONFIG, str(secret), "0640", f"chmod 600 {secret}")
        self.assert_exit(self.run_program("millrace-worker", "run", "--queue", "q=echo", *keys.client("friend")), CONFIG,
                         "chmod 600")
        secret.chmod(0o600)
        self.assert_exit(submit("--curve-key", secret), CONFIG, "--curve-broker")
        self.assert_exit(submit("--curve-broker", keys.public("broker")), CONFIG, "--curve-key")
        self.assert_exit(submit("--curve-key", secret, "--curve-broker", keys.secret("broker")), CONFIG, "secret-key")
        self.assert_exit(submit("--curve-key", keys.public("friend"), "--curve-broker", keys.public("broker")), CONFIG,
                         "chmod 600")
        self.assert_exit(submit("--curve-key", self.dir / "nowhere", "--curve-broker", keys.public("broker")), CONFIG,
                         "nowhere", "keygen")
        secret.write_text("secret-key short\n")
        self.assert_exit(submit(*keys.client("friend")), CONFIG, str(secret), "keygen")


class HandshakeTest(harness.Case):
    def refused(self, process, *words):
        self.assert_exit(process, UNREACHABLE, "refuses the connection", *words)

    def work(self, broker, *flags):
        return self.run_program("millrace-worker", "run", "--broker", f"127.0.0.1:{broker.backend_port}", "--queue",
                                "q=echo", *flags)

    def submit(self, broker, *flags):
        return self.produce("submit", broker, "--queue", "q", "--connect-timeout", "25s", *flags, "x")

    def test_those_on_the_list_work_and_the_others_are_told_why_not(self):
        keys = Keys(self, "friend")
        broker = self.broker(*keys.server).start()
        self.worker(broker, "q=echo", flags=keys.client("friend")).start()
        load = self.produce("load", broker, *keys.client("friend"), "--queue", "q", "--count", "2000", "--verify",
                            "--ledger", self.dir / "ledger", "--json")
        self.assertEqual(load.returncode, 0, load.stderr)
        self.assertEqual(json.loads(load.stdout)["lost"], 0)
        audit = self.produce("audit", broker, *keys.client("friend"), "--ledger", self.dir / "ledger")
        self.assertEqual(audit.returncode, 0, audit.stderr)
        large = self.dir / "large"
        large.write_bytes(b"x" * (1 << 20) + b"\n")
        done = self.produce("submit", broker, *keys.client("friend"), "--queue", "q", "--wait", "--lines", large)
        self.assertEqual(done.returncode, 0, done.stderr)
        status = broker.status()
        self.assertEqual((status["security"], status["keys"], status["refused_handshakes"]), ("curve", 1, 0))

        for attempt in (self.submit, self.work):
            with self.subTest(attempt=attempt.__name__):
                self.refused(attempt(broker, *keys.client("stranger")), "keys add")
                self.refused(attempt(broker), "--curve-key")
                self.refused(attempt(broker, *keys.client("friend", broker="stranger")), "--curve-broker")
        self.assertGreaterEqual(broker.status()["refused_handshakes"], 6)
        self.assertRegex(broker.text(), r"handshake refused peer=127\.0\.0\.1")
        self.assertEqual(broker.jobs()["done"], 2001)
        self.assertEqual(broker.terminate(), 0)

    def test_a_client_in_another_language_as_the_protocol_page_has_it(self):
        keys = Keys(self, "friend")
        broker = self.broker(*keys.server).start()

        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        self.addCleanup(context.destroy, linger=0)

        def key(path):
            return [line.split()[1] for line in path.read_text().splitlines() if not line.startswith("#")][0].encode()

        def say_hello(session):
            socket.send(msgpack.packb([1, 1, session, bytes(range(16))]))

        def hears(condition):
            return wait_until(lambda: socket.poll(100) and condition(msgpack.unpackb(socket.recv())))

        secret = key(keys.secret("friend"))
        socket.curve_secretkey, socket.curve_publickey = secret, zmq.curve_public(secret)
        socket.curve_serverkey = key(keys.public("broker"))
        socket.connect(broker.frontend)
        say_hello(77)
        self.assertTrue(hears(lambda message: message[:3] == [1, 30, 77]))
        keys.remove("friend")
        self.assertTrue(hears(lambda message: message[1:4] == [51, 77, "revoked"]))

        # It need not go, as our clients do: its connection is open, and gets it nowhere.
        def refused(message):
            self.assertNotEqual(message[:3], [1, 30, 78], "let in")
            return message[1:4] == [51, 78, "revoked"]

        say_hello(78)
        self.assertTrue(hears(refused))
        self.assertEqual(broker.status()["producers"], 0)

    def test_keys_where_none_are_asked_for(self):
        keys = Keys(self, "friend")
        broker = self.broker().start()
        self.refused(self.submit(broker, *keys.client("friend")), "does not use keys")
        self.refused(self.work(broker, *keys.client("friend")), "does not use keys")
        self.assertEqual(broker.status()["security"], "none")

    def test_a_peer_is_let_in_within_a_second_of_being_listed(self):
        keys = Keys(self, "friend")
        broker = self.broker(*keys.server).start()
        keys.add("stranger")
        wait_until(lambda: broker.status()["keys"] == 2, deadline=1.5, what="the list being taken")
        self.assertEqual(self.submit(broker, *keys.client("stranger")).returncode, 0)
        keys.allow.write_text("spoiled\n")
        wait_until(lambda: "new allow-list is not valid" in broker.text(), what="the spoiled list being named")
        self.assertEqual(self.submit(broker, *keys.client("stranger")).returncode, 0, "the list before it is in force")


class RevokedTest(harness.Case):
    def test_a_worker_loses_its_jobs_and_a_producer_its_place(self):
        keys = Keys(self, "good", "bad", "client")
        broker = self.broker(*keys.server, "--liveness", "100").start()  # silence alone would take 100 s
        gate, began = self.dir / "gate", self.dir / "began"
        hang = f"q=exec:test -e {gate} || {{ echo >> {began}; sleep 60; }}; printf ok"
        bad = self.worker(broker, hang, pool="fixed:4", flags=(*keys.client("bad"), "--drain-timeout", "1s"), name="bad").start()
        waiting = self.producer("submit", broker, *keys.client("client"), "--queue", "q", "--wait", "--lines", "-", name="waiting")
        waiting.stdin = (self.lines(4)).open("rb")
        waiting.start()
        wait_until(lambda: len(harness.read_lines(began)) == 4, what="the jobs running")
        gate.touch()
        self.worker(broker, hang, flags=keys.client("good"), name="good").start()
        keys.remove("bad")
        broker.wait_jobs(done=4, leased=0, deadline=20)
        self.assertEqual(waiting.wait(), 0, waiting.text())
        waiting.stdin.close()
        self.assertEqual(broker.status()["totals"]["crashes"], 4)
        self.assertTrue(bad.running(), "it may be let in again")
        wait_until(lambda: "refuses the connection" in bad.text(), what="the worker being told")

        # A producer that stays connected: its submissions are refused from then on.
        load = self.producer("load", broker, *keys.client("client"), "--queue", "q", "--rate", "200", "--duration", "60s",
                             name="load").start()
        wait_until(lambda: broker.jobs()["done"] > 50, what="the load running")
        keys.remove("client")
        self.assertEqual(load.wait(), UNREACHABLE, load.text())
        self.assertIn("from its list", load.text())
        self.assertEqual(broker.status()["producers"], 0)

        keys.add("bad")
        broker.wait_workers(2)
        self.assertEqual(bad.terminate(), 0)

    def lines(self, count):
        path = self.dir / "lines"
        path.write_text("".join(f"{i}\n" for i in range(count)))
        return path


if __name__ == "__main__":
    unittest.main(verbosity=2)
