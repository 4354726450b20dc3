"""millrace-broker top in a real terminal (tmux), and status --watch."""
import json
import os
import signal
import subprocess
import unittest

from harness import BIN, DEADLINE, USAGE, Case, wait_until


class TmuxTest(Case):
    """A terminal of a given size on a tmux server of its own."""

    def setUp(self):
        super().setUp()
        self.socket = self.dir / "tmux"
        self.addCleanup(self.tmux, "kill-server", check=False)

    def tmux(self, *arguments, check=True):
        return subprocess.run(["tmux", "-f", "/dev/null", "-S", self.socket, *map(str, arguments)], check=check,
                              capture_output=True, text=True, timeout=DEADLINE,
                              env={**os.environ, "LANG": "C.UTF-8", "TERM": "xterm"}).stdout

    def open(self, columns=80, rows=24):
        self.tmux("new-session", "-d", "-x", columns, "-y", rows, "env", "PS1=prompt>", "sh")
        self.see("prompt>")

    def type(self, *keys):
        self.tmux("send-keys", *keys)

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def see(self, *words):
        wait_until(lambda: all(word in self.screen() for word in words), what=f"{words} on the screen")

    def start_top(self, broker, *flags):
        self.type(" ".join(map(str, [BIN / "millrace-broker", "top", "--http", broker.http, *flags])), "Enter")

    def pid_of_top(self):
        return int(subprocess.run(["pgrep", "-P", self.tmux("list-panes", "-F", "#{pane_pid}").strip()], check=True,
                                  capture_output=True, text=True).stdout)


class TopTest(TmuxTest):
    def test_top_shows_a_broker_and_pauses_a_queue(self):
        broker = self.broker().start()
        for queue, count in (("mail", 3), ("orders", 5)):
            self.assertEqual(self.produce("submit", broker, "--queue", queue, "--lines", "-",
                                          stdin=b"x\n" * count).returncode, 0)
        self.open()
        self.start_top(broker)
        self.see("millrace ", "serving", "queue orders: 5 jobs ready, no worker", "q quit")
        rows = [line.split() for line in self.screen().splitlines() if line.startswith(("mail ", "orders "))]
        self.assertEqual([row[:3] for row in rows], [["orders", "5", "0"], ["mail", "3", "0"]])
        self.type("Down", "p")
        self.see("mail is paused")
        queues = {queue["name"]: queue["settings"]["paused"] for queue in broker.status()["queues"]}
        self.assertEqual(queues, {"mail": True, "orders": False})
        wait_until(lambda: any("paused" in line for line in self.screen().splitlines() if line.startswith("mail ")),
                   what="the row of the queue saying that it is paused")
        self.type("p")
        self.see("mail is resumed")

        self.tmux("resize-window", "-x", 120, "-y", 40)
        self.see("SCHEDULED", "DONE")
        self.tmux("resize-window", "-x", 50, "-y", 12)
        wait_until(lambda: "SCHEDULED" not in self.screen() and "READY" in self.screen(), what="a narrow table")
        self.type("Tab")
        self.see("no workers")
        self.type("?")
        self.see("Keys of millrace-broker top")
        self.type("x", "q")
        self.see("prompt>")
        self.assertNotIn("q quit", self.screen())  # the terminal shows what it showed before

    def test_a_broker_that_goes_away_is_shown_and_asked_again(self):
        broker = self.broker().start()
        self.open()
        self.start_top(broker, "--interval", "250ms")
        self.see("serving")
        broker.kill()
        self.see("can't reach")
        broker.start()
        wait_until(lambda: "can't reach" not in self.screen(), what="the error being gone")
        self.type("q")
        self.see("prompt>")

    def test_a_signal_leaves_the_terminal_clean(self):
        broker = self.broker().start()
        self.open()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            self.start_top(broker)
            self.see("q quit")
            os.kill(self.pid_of_top(), number)
            wait_until(lambda: "q quit" not in self.screen(), what="the end of top")
            self.type("echo code=$?", "Enter")
            self.see("code=0")  # also shows that the terminal echoes again
            self.type("clear", "Enter")
            wait_until(lambda: "code" not in self.screen(), what="an empty screen")

    def test_without_a_terminal_it_says_what_to_use(self):
        self.assert_exit(self.run_program("millrace-broker", "top"), USAGE, "needs a terminal", "status --watch")


class WatchTest(Case):
    def test_watch_prints_one_object_a_line_until_it_is_interrupted(self):
        broker = self.broker().start()
        arguments = [BIN / "millrace-broker", "status", "--http", broker.http, "--json", "--watch", "--interval", "100ms"]
        with subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
            objects = [json.loads(watch.stdout.readline()) for _ in range(3)]
            self.assertEqual({status["broker"] for status in objects}, {objects[0]["broker"]})
            self.assertLess(objects[0]["uptime_ms"], objects[2]["uptime_ms"])
            broker.kill()
            self.assertIn(b"can't reach", watch.stderr.readline())
            watch.send_signal(signal.SIGINT)
            self.assertEqual(watch.wait(DEADLINE), 0)


if __name__ == "__main__":
    unittest.main()
