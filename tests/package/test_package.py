"""What `cmake --install` puts down is enough: projects that know only the installed tree build against it
and run with the installed programs."""
import gzip
import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
import harness  # noqa: E402  pylint: disable=wrong-import-position

EXAMPLES = harness.ROOT / "examples"
BUILD = harness.BIN.parent


@unittest.skipIf(harness.SANITIZED, "other projects would have to link the sanitizer's runtime")
class PackageTest(harness.Case):
    def setUp(self):
        super().setUp()
        self.prefix = self.dir / "prefix"
        self.cmake("--install", BUILD, "--prefix", self.prefix)

    def cmake(self, *arguments):
        process = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)

    def build(self, name):
        """An example as a project of its own: copied away, so that nothing beside it is found."""
        source, build = self.dir / "projects" / name, self.dir / "projects" / f"{name}-build"
        shutil.copytree(EXAMPLES / name, source)
        self.cmake("-S", source, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Release",
                   "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")
        self.cmake("--build", build)
        return build

    def submit(self, broker, queue, *payloads):
        process = self.produce("submit", broker, "--queue", queue, "--lines", "-", "--wait", "--results", "-",
                               "--max-attempts", 1, stdin="\n".join(payloads).encode())
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        return sorted(lines, key=lambda line: line["seq"])

    def test_the_installed_programs_run(self):
        for program in ("millrace-broker", "millrace-worker", "millrace-producer"):
            process = subprocess.run([self.prefix / "bin" / program, "--version"], capture_output=True, check=False)
            self.assertEqual(process.returncode, 0, process.stderr)

    def test_a_plugin_of_another_project(self):
        plugin = self.build("cpp-handler") / "gzip-handler.so"
        broker = self.broker().start()
        harness.Process(self, "worker", [self.prefix / "bin/millrace-worker", "run", "--broker",
                                         f"127.0.0.1:{broker.backend_port}", "--queue", f"gzip=so:{plugin}"]).start()
        text = "to be or not to be, " * 100
        [line] = self.submit(broker, "gzip", text)
        self.assertEqual(line["state"], "done", line)
        packed = harness.decode_result(line)
        self.assertEqual(gzip.decompress(packed).decode(), text)
        self.assertLess(len(packed), len(text) // 10)

    def test_a_program_with_a_worker_inside(self):
        program = self.build("embedded-worker") / "embedded-worker"
        broker = self.broker().start()
        worker = harness.Process(self, "worker", [program, f"127.0.0.1:{broker.backend_port}"]).start()
        bad, good = self.submit(broker, "greet", "", "world")
        self.assertEqual((good["state"], good["result"]), ("done", "hello, world"))
        self.assertEqual((bad["state"], bad["error"]), ("dead", "a name is needed"))
        [line] = self.submit(broker, "reverse", "abc")
        self.assertEqual(line["result"], "cba")
        self.assertEqual(worker.terminate(), 0)

    def test_a_program_with_a_producer_inside(self):
        program = self.build("embedded-producer") / "embedded-producer"
        broker = self.broker().start()
        self.worker(broker, "greet=exec:read name; echo \"hello, $name\"").start()
        process = subprocess.run([program, f"127.0.0.1:{broker.frontend_port}", "2000"], capture_output=True, text=True,
                                 timeout=60, check=False)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("hello, world", process.stdout)
        self.assertIn("2000 confirmed, 0 rejected, 0 unknown", process.stdout)
        self.assertEqual(broker.status()["totals"]["accepted"], 2001)
        # Batches have formed by themselves: the jobs did not cost a commit each.
        self.assertLess(broker.status()["journal"]["commits"], 1000)

    def test_a_producer_without_a_broker_says_so(self):
        program = self.build("embedded-producer") / "embedded-producer"
        process = subprocess.run([program, "127.0.0.1:1", "3"], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(process.returncode, harness.UNREACHABLE, process.stderr)
        self.assertIn("127.0.0.1:1", process.stderr)

    def test_its_errors_are_told(self):
        program = self.build("embedded-worker") / "embedded-worker"
        process = subprocess.run([program, "no:such:address"], capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(process.returncode, harness.USAGE)
        self.assertIn("no:such:address", process.stderr)

    def shown_names(self, library):
        path = next(self.prefix.glob(f"lib/**/{library}"))
        names = subprocess.run(["nm", "-DC", "--defined-only", path], capture_output=True, text=True, check=True).stdout
        return [line.split(" ", 2)[2] for line in names.splitlines()]

    def test_the_libraries_show_only_their_own_names(self):
        for library, name in (("libmillrace_worker.so", "millrace::Worker::run"),
                              ("libmillrace_producer.so", "millrace::Producer::submit")):
            shown = self.shown_names(library)
            self.assertTrue(any(line.startswith(name) for line in shown))
            inside = ("millrace::worker::", "millrace::producer::", "millrace::protocol::")
            self.assertFalse([line for line in shown if line.startswith(inside)])


if __name__ == "__main__":
    os.environ.pop("CMAKE_PREFIX_PATH", None)
    unittest.main()
