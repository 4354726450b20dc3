"""The walls between the modules: what each folder includes is what the table of docs/ARCHITECTURE.md allows."""
import collections
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("common", "broker", "worker", "producer")
PURE = ("broker/records", "broker/core", "broker/core/dispatch", "broker/core/outcomes", "broker/core/session",
        "broker/core/state", "worker/job", "worker/session", "producer/session")
MOST_FILES = 26  # in a folder; a larger one has more than one subject

INCLUDE = re.compile(r'^#include (?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
ROW = re.compile(r"^\| `([a-z/]+)/` \|.*\|([^|]*)\|$", re.MULTILINE)
# Files, sockets, threads and the clock; what is left of the standard library computes.
SYSTEM_HEADER = re.compile(
    r"(sys|netinet|arpa|linux)/.*|.*\.h|zmq.*|spdlog/.*|boost/.*|thread|mutex|shared_mutex|condition_variable|"
    r"atomic|future|semaphore|barrier|latch|stop_token|fstream|iostream|filesystem|csignal|cstdio|ctime")
HEADERS_THAT_COMPUTE = {"tsl/robin_map.h", "fmt/format.h"}
CLOCK = re.compile(r"\b(\w*clock\w*::now|read_clock|Now::read|random_device)\b")


def allowed_folders():
    """{folder: folders that it may include}, from the page's table."""
    page = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    table = {}
    for folder, allowed in ROW.findall(page):
        names = re.findall(r"`([a-z/]+)`", allowed)
        shared = [name if "/" in name else f"common/{name}" for name in names]
        table[folder] = set(shared)
    return table


def source_files(folders=PROGRAMS):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cpp"):
                yield path


def includes(path):
    """(own headers, other headers) of a file."""
    found = INCLUDE.findall(path.read_text(encoding="utf-8"))
    return [own for own, _ in found if own], [other for _, other in found if other]


def folder_of(path):
    return path.parent.relative_to(ROOT).as_posix()


class IncludesTest(unittest.TestCase):
    def setUp(self):
        self.allowed = allowed_folders()

    def test_each_folder_has_its_row_in_the_table(self):
        folders = {folder_of(path) for path in source_files()}
        self.assertEqual(folders, set(self.allowed))

    def test_a_folder_includes_what_its_row_names_and_nothing_else(self):
        seen = collections.defaultdict(set)
        for path in source_files():
            folder = folder_of(path)
            for header in includes(path)[0]:
                seen[folder].add(header.rpartition("/")[0])
        for folder, allowed in self.allowed.items():
            self.assertEqual(seen[folder] - {folder}, allowed, f"{folder}: includes (first) and its row (second)")

    def test_there_is_no_circle(self):
        order, waiting = [], dict(self.allowed)
        while waiting:
            ready = [folder for folder, needed in waiting.items() if needed <= set(order)]
            self.assertTrue(ready, f"these include each other: {sorted(waiting)}")
            order += ready
            for folder in ready:
                del waiting[folder]

    def test_programs_know_common_and_not_each_other(self):
        for folder, allowed in self.allowed.items():
            program = folder.split("/")[0]
            self.assertLessEqual({name.split("/")[0] for name in allowed}, {program, "common"}, folder)

    def test_the_rules_see_no_file_socket_thread_or_clock(self):
        for path in source_files():
            if folder_of(path) not in PURE:
                continue
            for header in includes(path)[1]:
                if header not in HEADERS_THAT_COMPUTE:
                    self.assertNotRegex(header, f"^(?:{SYSTEM_HEADER.pattern})$", path)
            self.assertNotRegex(path.read_text(encoding="utf-8"), CLOCK, path)

    def test_a_folder_is_small_enough_to_be_read(self):
        count = collections.Counter(folder_of(path) for path in source_files())
        large = {folder: files for folder, files in count.items() if files > MOST_FILES}
        self.assertEqual(large, {})


if __name__ == "__main__":
    unittest.main()
