"""Links between pages, pages and sections named in sources, and paths named in pages exist; decisions have no gaps."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("broker", "cmake", "common", "docs", "examples", "producer", "scripts", "tests", "worker")
SOURCES = (".h", ".cpp", ".py", ".sh", ".bats", ".cmake", ".txt", ".sbatch", ".html", ".js")

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MENTION = re.compile(r"\bdocs/(?:[A-Z]+\.md\b|decisions/\d{4}[\w.-]*)")
PATH = re.compile(r"`((?:broker|cmake|common|docs|examples|producer|scripts|tests|worker)/[\w./*{},-]+)`")
# The page that is named, then the section: `docs/JOURNAL.md, section 6`, `](JOURNAL.md), section 6`.
SECTION = re.compile(r"\b([A-Z]+\.md)\)?,\s+(?://\s+|#\s+)?section (\d+)")


def pages():
    return sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "examples").rglob("*.md"))


def sources():
    for folder in FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SOURCES)


def text_of(path):
    return path.read_text(encoding="utf-8")


def anchors(page):
    """The names that GitHub gives to a page's headings."""
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in HEADING.findall(text_of(page)))
    return {heading.strip().replace(" ", "-") for heading in plain}


def target_exists(page, link):
    if re.match(r"[a-z]+:", link):
        return True  # another site
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in anchors(target))


def page_exists(mention):
    path = ROOT / mention.rstrip(".")
    number_only = re.fullmatch(r"\d{4}", path.name)
    return len(list(path.parent.glob(f"{path.name}-*.md"))) == 1 if number_only else path.exists()


def path_exists(pattern):
    """`broker/server/loop`, without an ending, stands for its header and source; `{h,cpp}` for both."""
    name, _, endings = pattern.partition("{")
    patterns = [name + ending for ending in endings.rstrip("}").split(",")]
    return all(any(ROOT.glob(path.rstrip("/"))) or any(ROOT.glob(path + ".*")) for path in patterns)


def section_exists(page, number):
    return re.search(rf"^## {number}\. ", text_of(ROOT / "docs" / page), re.MULTILINE)


class LinksTest(unittest.TestCase):
    def test_each_link_of_a_page_leads_to_a_file_and_its_heading(self):
        broken = [(page.relative_to(ROOT).as_posix(), link)
                  for page in pages() for link in LINK.findall(CODE.sub("", text_of(page)))
                  if not target_exists(page, link)]
        self.assertEqual(broken, [])

    def test_each_page_that_a_file_mentions_exists(self):
        missing = [(path.relative_to(ROOT).as_posix(), mention)
                   for path in [*pages(), *sources()] for mention in MENTION.findall(text_of(path))
                   if not page_exists(mention)]
        self.assertEqual(missing, [])

    def test_each_path_that_a_page_mentions_exists(self):
        missing = [(page.relative_to(ROOT).as_posix(), path)
                   for page in pages() if page.name != "CHANGELOG.md" for path in PATH.findall(text_of(page))
                   if not path_exists(path)]
        self.assertEqual(missing, [])

    def test_each_section_that_a_file_mentions_exists(self):
        missing = [(path.relative_to(ROOT).as_posix(), page, number)
                   for path in [*pages(), *sources()] for page, number in SECTION.findall(text_of(path))
                   if not (ROOT / "docs" / page).exists() or not section_exists(page, number)]
        self.assertEqual(missing, [])

    def test_decisions_are_numbered_without_gaps_and_titled_with_their_number(self):
        decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
        numbers = [page.name[:4] for page in decisions]
        self.assertEqual(numbers, [f"{n:04}" for n in range(1, len(decisions) + 1)])
        for page in decisions:
            self.assertRegex(text_of(page), rf"\A# {page.name[:4]} \w", page.name)


if __name__ == "__main__":
    unittest.main()
