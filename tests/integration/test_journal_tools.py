"""The journal's offline commands with real brokers and real damage: found, told with its place and
its remedy, repaired into a new directory on which a broker starts with all that is left."""
import base64
import json
import struct
import unittest

import harness
import reference_client as wire
from harness import BAD_DATA, CANT_CREATE, USAGE, wait_until

BLOCK = 4096


class JournalTest(harness.Case):
    def journal(self, *arguments):
        return self.run_program("millrace-broker", "journal", *arguments)

    def journal_json(self, *arguments, code=0):
        process = self.journal(*arguments, "--json")
        self.assertEqual(process.returncode, code, process.stdout.decode() + process.stderr.decode())
        return json.loads(process.stdout)

    def submit(self, broker, lines, queue="q"):
        stdin = b"".join(line + b"\n" for line in lines)
        process = self.produce("submit", broker, "--queue", queue, "--lines", "-", stdin=stdin)
        self.assertEqual(process.returncode, 0, process.stderr)

    def lives(self, *counts):
        """A directory after as many lives of a broker, with so many jobs each; the last was killed.
        The first ends with self.bulk large jobs: without them the broker would carry the others on,
        and the small old segments would be gone."""
        data = self.dir / "data"
        self.bulk = 26 * (len(counts) - 1)
        total = 0
        for life, count in enumerate(counts):
            broker = self.broker(data=data, name=f"life-{life}").start()
            for _ in range(count // 50):  # a commit each
                self.submit(broker, [b"payload %d of life %d" % (total + i, life) for i in range(50)])
                total += 50
            if life == 0 and self.bulk:
                self.submit(broker, [b"x" * 1_000_000] * self.bulk, queue="bulk")
            if life + 1 < len(counts):
                self.assertEqual(broker.terminate(), 0)
        broker.kill()
        return data

    def segments(self, data):
        return sorted(data.glob("segment-*.mrj"))


def batches(path):
    """Offsets of the batches, by their magic."""
    content = path.read_bytes()
    return [at for at in range(BLOCK, len(content), BLOCK) if content[at:at + 8] == b"MRBATCH1"]


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


class WholeTest(JournalTest):
    def test_verify_and_stat_of_a_whole_one(self):
        data = self.lives(100, 150)
        verified = self.journal_json("verify", data)
        self.assertEqual((verified["ok"], verified["segments"], verified["findings"]), (True, 2, []))
        said = self.journal("verify", data)
        self.assertIn(b"OK", said.stdout)
        stat = self.journal_json("stat", data)
        self.assertEqual(stat["jobs"]["live"], 250 + self.bulk)
        self.assertEqual(stat["records_by_kind"]["started"], 2)
        self.assertEqual((stat["incarnation"], stat["format_version"], stat["sealed"]), (2, 2, 1))
        self.assertTrue(stat["oldest_live"]["id"].endswith("-1"))
        self.assertGreater(stat["payload_bytes"], 250 * 10)
        self.assertLessEqual(stat["oldest_live"]["accepted_ms"], stat["last_ms"])
        self.assertIn(b"%d live" % (250 + self.bulk), self.journal("stat", data).stdout)

    def test_dump_shows_payloads_only_when_asked(self):
        data = self.lives(50)
        plain = self.journal("dump", data)
        self.assertEqual(plain.returncode, 0)
        self.assertNotIn(b"payload 7 of", plain.stdout)
        self.assertIn(b"accepted", plain.stdout)
        lines = [json.loads(line) for line in self.journal("dump", data, "--json").stdout.splitlines()]
        self.assertEqual([line["record"] for line in lines][:2], ["checkpoint", "started"])
        self.assertNotIn("payloads_base64", json.dumps(lines))
        found = self.journal("dump", data, "--json", "--payloads", "--job", 8)
        [line] = [json.loads(line) for line in found.stdout.splitlines()]
        payload = line["payloads_base64"][8 - line["first_job"]]
        self.assertEqual(base64.b64decode(payload), b"payload 7 of life 0")
        self.assertEqual(self.journal("dump", data, "--job", 1000).stdout, b"")

    def test_dump_from_a_segment(self):
        data = self.lives(50, 50)
        second = self.journal("dump", data, "--json", "--from", 2).stdout.splitlines()
        self.assertEqual({json.loads(line)["segment"] for line in second}, {2})
        named = self.journal("dump", data, "--json", "--from", self.segments(data)[1].name).stdout.splitlines()
        self.assertEqual(named, second)

    def test_a_torn_tail_is_no_damage(self):
        data = self.lives(100)
        [segment] = self.segments(data)
        flip(segment, batches(segment)[-1] + 70)
        verified = self.journal_json("verify", data)
        self.assertTrue(verified["ok"])
        self.assertEqual(verified["torn_tail"]["offset"], batches(segment)[-1])
        self.assertEqual(self.broker(data=data).start().jobs()["ready"] % 50, 0)


class MisuseTest(JournalTest):
    def test_what_users_get_wrong(self):
        data = self.lives(50)
        empty = self.dir / "empty"
        empty.mkdir()
        for code, words, arguments in (
                (USAGE, ["verify, stat, dump or repair"], []),
                (USAGE, ["frobnicate"], ["frobnicate", data]),
                (USAGE, ["--data"], ["verify"]),
                (USAGE, ["--frobnicate"], ["verify", data, "--frobnicate"]),
                (USAGE, ["--to"], ["repair", data]),
                (USAGE, ["--to"], ["verify", data, "--to", self.dir / "new"]),
                (USAGE, ["--from"], ["stat", data, "--from", "1"]),
                (USAGE, ["eleven"], ["dump", data, "--from", "eleven"]),
                (USAGE, ["seven"], ["dump", data, "--job", "seven"]),
                (BAD_DATA, ["00000001"], ["dump", data, "--job", "00000001-7"]),
                (BAD_DATA, ["99"], ["dump", data, "--from", "99"]),
                (BAD_DATA, ["nowhere"], ["verify", self.dir / "nowhere"]),
                (BAD_DATA, ["no journal"], ["verify", empty]),
                (BAD_DATA, ["no journal"], ["repair", empty, "--to", self.dir / "new"]),
                (CANT_CREATE, ["not an empty directory"], ["repair", data, "--to", data]),
                (CANT_CREATE, ["no/where"], ["repair", data, "--to", self.dir / "no/where"])):
            with self.subTest(arguments=arguments):
                self.assert_exit(self.journal(*arguments), code, *words)
        self.assertFalse((self.dir / "new").exists())

    def test_not_under_a_running_broker(self):
        broker = self.broker().start()
        for action in (["verify"], ["stat"], ["dump"], ["repair", "--to", self.dir / "new"]):
            process = self.journal(*action, broker.data)
            self.assert_exit(process, CANT_CREATE, str(broker.pid), str(broker.data), "status")
        self.assertEqual(broker.get("/readyz")[0], 200)

    def test_another_version_is_not_repaired(self):
        data = self.lives(50)
        [segment] = self.segments(data)
        content = bytearray(segment.read_bytes()[:48])
        content[8:12] = struct.pack("<I", 77)
        from test_bad_input import patch, xxh3
        patch(segment, 0, content + struct.pack("<Q", xxh3(content)))
        self.assert_exit(self.journal("repair", data, "--to", self.dir / "new"), BAD_DATA, "version 77")
        verified = self.journal_json("verify", data, code=BAD_DATA)
        self.assertEqual(verified["findings"][0]["kind"], "foreign version")
        self.assertFalse((self.dir / "new").exists())


class RepairTest(JournalTest):
    def repair_and_start(self, data, lost):
        """serve refuses, repair saves, serve has all but the lost jobs. The report and the broker."""
        refused = self.run_program(*self.broker(data=data, name="refused").command())
        finding = self.journal_json("verify", data, code=BAD_DATA)["findings"][0]
        self.assert_exit(refused, BAD_DATA, finding["file"], str(finding["offset"]), "journal repair")
        before = [segment.read_bytes() for segment in self.segments(data)]
        report = self.journal_json("repair", data, "--to", self.dir / "new", code=1 if lost else 0)
        self.assertEqual([segment.read_bytes() for segment in self.segments(data)], before, "in place")
        self.assertEqual(report["lost_jobs"], lost)
        self.assertEqual(sum(entry["count"] for entry in report["lost"]), lost)
        self.assertTrue(self.journal_json("verify", self.dir / "new")["ok"])
        return report, self.broker(data=self.dir / "new", name="repaired").start()

    def test_damage_in_the_middle_of_a_sealed_segment(self):
        data = self.lives(500, 300)
        first = self.segments(data)[0]
        hit = batches(first)[5]
        lost = [json.loads(line) for line in self.journal("dump", data, "--json").stdout.splitlines()]
        lost = [(line["first_job"], line["count"]) for line in lost
                if line["record"] == "accepted" and line["segment"] == 1 and hit < line["offset"] < hit + BLOCK]
        flip(first, hit + 100)
        report, broker = self.repair_and_start(data, sum(count for _, count in lost))
        gone = {job for first_job, count in lost for job in range(first_job, first_job + count)}
        named = {job for entry in report["lost"] for job in range(entry["first_job"], entry["first_job"] + entry["count"])}
        self.assertEqual(named, gone)
        self.assertTrue(gone)

        ran = []
        worker = wire.Worker(broker.backend, ["q"], lambda queue, attempt, payload: ran.append(payload) or b"")
        self.addCleanup(worker.vanish)
        left = 800 - len(gone)
        wait_until(lambda: worker.step(0.005) or broker.jobs()["done"] == left, interval=0, what="the rest done")
        self.assertEqual(set(worker.executed), {*range(1, 501), *range(501 + self.bulk, 801 + self.bulk)} - gone)
        for job, payload in zip(worker.executed, ran):
            number, life = (job - 1, 0) if job <= 500 else (job - 1 - self.bulk, 1)
            self.assertEqual(payload, b"payload %d of life %d" % (number, life))
        self.assertEqual(broker.jobs()["cancelled"], len(gone))

        # New jobs have new numbers, and the journal lives on.
        self.submit(broker, [b"new"])
        self.assertEqual(broker.status()["totals"]["accepted"], 801 + self.bulk)
        broker.restart()
        jobs = broker.jobs()
        self.assertEqual(jobs["ready"] + jobs["leased"] + jobs["done"], left + 1 + self.bulk)

    def test_a_segment_that_is_gone(self):
        data = self.lives(100, 200, 100)
        self.segments(data)[1].unlink()
        report, broker = self.repair_and_start(data, 200)
        self.assertEqual([(entry["first_job"], entry["count"]) for entry in report["lost"]], [(101 + self.bulk, 200)])
        self.assertEqual(broker.jobs()["ready"], 200 + self.bulk)

    def test_a_damaged_header_loses_nothing(self):
        data = self.lives(100, 100)
        flip(self.segments(data)[0], 20)
        _, broker = self.repair_and_start(data, 0)
        self.assertEqual(broker.jobs()["ready"], 200 + self.bulk)

    def test_what_was_not_finished_is_in_the_way_of_nothing(self):
        data = self.lives(100)
        (self.dir / "new.partial").mkdir()
        process = self.journal("repair", data, "--to", self.dir / "new")
        self.assert_exit(process, CANT_CREATE, "new.partial")
        (self.dir / "new.partial").rmdir()
        (self.dir / "new").mkdir()
        self.assertEqual(self.journal("repair", data, "--to", self.dir / "new").returncode, 0)
        self.assertFalse((self.dir / "new.partial").exists())
        self.assertEqual(self.broker(data=self.dir / "new").start().jobs()["ready"], 100)


if __name__ == "__main__":
    unittest.main(verbosity=2)
