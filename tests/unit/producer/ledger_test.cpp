#include "producer/client/ledger.h"

#include <filesystem>

#include "producer/audit/reconciliation.h"
#include "producer/client/line_file.h"
#include "tests/catch.h"
#include "tests/support/temp_directory.h"

using namespace millrace;
using namespace millrace::producer;

namespace {

const Uuid kProducer = Uuid::from_bytes("0123456789abcdef");
const std::string kHead = "{\"producer\":\"30313233343536373839616263646566\"}\n";
const std::string kSent = "{\"sent\":[1,3],\"queue\":\"q\"}\n";

Error refusal(const std::string& content) {
  TempDirectory dir;
  LedgerEntries entries;
  auto read = read_ledger(dir.file("ledger", content), &entries);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ExitCode::bad_data);
  return read.error();
}

}  // namespace

TEST_CASE("a ledger is read as it was written", "[ledger]") {
  TempDirectory dir;
  std::string path = dir.file("ledger");
  {
    auto ledger = Ledger::open(path, kProducer);
    REQUIRE(ledger);
    ledger->sent({{{1}, 1000}, "images"});
    ledger->sent({{{1001}, 1}, "images", true}, "10.0.0.1:5570");
    ledger->confirmed({{{1}, 999}, {0x3f9a1c07}, {5000}, false, "confirmed"});
    ledger->rejected({{{1000}, 1}, "queue \"full\"", Millis(5), "as it is"});
    REQUIRE(ledger->write());
  }
  CHECK(TempDirectory::content_of(path) ==
        kHead +
            "{\"sent\":[1,1000],\"queue\":\"images\"}\n"
            "{\"sent\":[1001,1],\"queue\":\"images\",\"keyed\":true,\"to\":\"10.0.0.1:5570\"}\n"
            "{\"confirmed\":[1,999,5000],\"broker\":\"3f9a1c07\"}\n"
            "{\"rejected\":[1000,1],\"reason\":\"queue \\\"full\\\"\"}\n");
  LedgerEntries entries;
  REQUIRE(read_ledger(path, &entries));
  REQUIRE(entries.sent.size() == 2);
  CHECK_FALSE(entries.sent[0].keyed);
  CHECK(entries.sent[1].keyed);
  CHECK(entries.sent[0].to.empty());
  CHECK(entries.sent[1].to == "10.0.0.1:5570");
  CHECK(entries.sent[0].producer == kProducer);
  CHECK(entries.sent[0].seqs == SeqRange{{1}, 1000});
  REQUIRE(entries.confirmed.size() == 1);
  CHECK(entries.confirmed[0].seqs == SeqRange{{1}, 999});
  CHECK(entries.confirmed[0].broker == BrokerId{0x3f9a1c07});
  CHECK(entries.confirmed[0].first_job == JobId{5000});
  REQUIRE(entries.rejected.size() == 1);
  CHECK(entries.rejected[0].seqs == SeqRange{{1000}, 1});
}

TEST_CASE("nothing is in the file before write(), and then all of it", "[ledger]") {
  TempDirectory dir;
  auto ledger = Ledger::open(dir.file("ledger"), kProducer);
  REQUIRE(ledger);
  ledger->sent({{{1}, 3}, "q"});
  CHECK(TempDirectory::content_of(dir.file("ledger")) == kHead);
  REQUIRE(ledger->write());
  CHECK(TempDirectory::content_of(dir.file("ledger")) == kHead + kSent);
  ledger->confirmed({{{1}, 3}, {7}, {1}, false, "buffered"});
  REQUIRE(ledger->write());
  CHECK(TempDirectory::content_of(dir.file("ledger")) ==
        kHead + kSent +
            "{\"confirmed\":[1,3,1],\"broker\":\"00000007\",\"durability\":\"buffered\"}\n");
}

TEST_CASE("a run is appended to those before, behind a whole line", "[ledger]") {
  TempDirectory dir;
  for (std::string torn : {"", "{\"confirmed\":[1,3", "\xff\xfe"}) {
    std::string path = dir.file("ledger", kHead + kSent + torn);
    {
      Uuid other = Uuid::random();
      auto ledger = Ledger::open(path, other);
      REQUIRE(ledger);
      CHECK(TempDirectory::content_of(path) ==
            kHead + kSent + "{\"producer\":\"" + other.hex() + "\"}\n");
      ledger->sent({{{1}, 2}, "q"});
      REQUIRE(ledger->write());
    }
    LedgerEntries entries;
    REQUIRE(read_ledger(path, &entries));
    REQUIRE(entries.sent.size() == 2);
    CHECK(entries.sent[0].producer != entries.sent[1].producer);
  }
  // Nothing but a torn line is an empty ledger.
  REQUIRE(Ledger::open(dir.file("other", "{\"prod"), kProducer));
  CHECK(TempDirectory::content_of(dir.file("other")) == kHead);
}

TEST_CASE("every truncation of a ledger can be read", "[ledger]") {
  TempDirectory dir;
  std::string whole = kHead + kSent + "{\"confirmed\":[1,3,9],\"broker\":\"3f9a1c07\"}\n";
  for (size_t size = 0; size <= whole.size(); ++size) {
    LedgerEntries entries;
    REQUIRE(read_ledger(dir.file("ledger", whole.substr(0, size)), &entries));
    CHECK(entries.sent.size() == (size >= kHead.size() + kSent.size() ? 1 : 0));
    CHECK(entries.confirmed.size() == (size == whole.size() ? 1 : 0));
  }
}

TEST_CASE("a line that is none of a ledger's is named by file and number", "[ledger]") {
  for (std::string bad :
       {"nonsense", "[1]", "{}", "", "{\"sent\":[1]}", "{\"sent\":[0,1]}", "{\"sent\":[1,0]}",
        "{\"sent\":[-1,1]}", "{\"sent\":\"x\"}", "{\"sent\":[1,18446744073709551615]}",
        "{\"confirmed\":[1,1],\"broker\":\"3f9a1c07\"}", "{\"confirmed\":[1,1,1]}",
        "{\"confirmed\":[1,1,1],\"broker\":\"xyz\"}",
        "{\"confirmed\":[1,1,0],\"broker\":\"3f9a1c07\"}", "{\"producer\":\"30\"}",
        "{\"producer\":1}"}) {
    INFO(bad);
    Error error = refusal(kHead + kSent + bad + "\n" + kSent);
    CHECK(error.message.find("ledger line 3") != std::string::npos);
  }
  CHECK(refusal(kSent).message.find("line 1") != std::string::npos);
}

TEST_CASE("a line without end takes no memory without end", "[ledger]") {
  TempDirectory dir;
  const std::string path = dir.file("ledger", kHead);
  std::filesystem::resize_file(path, uint64_t{1} << 40);  // of zeros, which take no space
  LedgerEntries entries;
  auto read = read_ledger(path, &entries);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == ExitCode::bad_data);
  CHECK(read.error().message.find(path + " line 2: longer than 65536 bytes") != std::string::npos);
}

TEST_CASE("lines longer than asked for are cut, and the next ones whole", "[ledger]") {
  TempDirectory dir;
  LineFile::Form form{"file", ""};
  form.longest = 4;
  form.cuts = true;
  const std::string endless(1 << 20, 'x');
  auto file =
      LineFile::open(dir.file("lines", "1234\n12345\n\n" + endless + "\nlast\n" + endless), form);
  REQUIRE(file);
  std::vector<std::string> lines;
  for (std::string_view line; *file->next(&line);)
    lines.push_back(std::string(line) + (file->is_cut() ? "..." : ""));
  CHECK(lines == std::vector<std::string>{"1234", "1234...", "", "xxxx...", "last"});
  CHECK(file->number() == 5);
}

TEST_CASE("a file with other content is not appended to, and left as it is", "[ledger]") {
  TempDirectory dir;
  for (const std::string& content : {std::string("notes, and the last line has no end"),
                                     std::string("{\"producer\": 1}\n"), std::string(9, '\0')}) {
    const std::string path = dir.file("notes", content);
    auto ledger = Ledger::open(path, kProducer);
    REQUIRE_FALSE(ledger);
    CHECK(ledger.error().code == ExitCode::bad_data);
    CHECK(ledger.error().message.find(path) != std::string::npos);
    CHECK(TempDirectory::content_of(path) == content);
  }
  // Torn within its first line, or behind a block of other bytes.
  for (const std::string& torn : {kHead.substr(0, 5), kHead + std::string(200'000, 'x')}) {
    const std::string path = dir.file("torn", torn);
    REQUIRE(Ledger::open(path, kProducer));
    CHECK(TempDirectory::content_of(path) == (torn.size() < 9 ? kHead : kHead + kHead));
  }
}

TEST_CASE("what a ledger has lost is restored as it was noted", "[ledger]") {
  TempDirectory dir;
  const std::string path = dir.file("ledger", kHead + kSent);
  LedgerEntries lost;
  lost.sent = {{kProducer, {{4}, 2}}};
  lost.confirmed = {{kProducer, {{1}, 5}, {0x3f9a1c07}, {11}}};
  {
    auto ledger = Ledger::open(path, kProducer, true);
    REQUIRE(ledger);
    REQUIRE(ledger->restore(lost, "q"));
  }
  LedgerEntries entries;
  REQUIRE(read_ledger(path, &entries));
  const Reconciliation books(entries);
  CHECK(books.sent == 5);
  CHECK(books.confirmed == 5);
  CHECK(books.unknown == 0);
  CHECK(books.holes().empty());
}

TEST_CASE("a ledger that can't be opened says why", "[ledger]") {
  TempDirectory dir;
  auto nowhere = Ledger::open(dir.file("missing/ledger"), kProducer);
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().code == ExitCode::cant_create);
  CHECK(nowhere.error().message.find("missing/ledger") != std::string::npos);

  auto first = Ledger::open(dir.file("ledger"), kProducer);
  REQUIRE(first);
  auto second = Ledger::open(dir.file("ledger"), kProducer);
  REQUIRE_FALSE(second);
  CHECK(second.error().message.find("another producer") != std::string::npos);

  LedgerEntries entries;
  auto unread = read_ledger(dir.file("none"), &entries);
  REQUIRE_FALSE(unread);
  CHECK(unread.error().code == ExitCode::bad_data);
}

TEST_CASE("a ledger that can't be written stops everything", "[ledger]") {
  auto full = Ledger::open("/dev/full", kProducer);
  REQUIRE_FALSE(full);
  CHECK(full.error().code == ExitCode::io);
}

TEST_CASE("a run that goes on with an earlier one says so", "[ledger]") {
  TempDirectory dir;
  std::string path = dir.file("ledger");
  for (bool resumed : {false, true}) {
    auto ledger = Ledger::open(path, kProducer, resumed);
    REQUIRE(ledger);
    ledger->sent({{{1}, 3}, "q"});
    REQUIRE(ledger->write());
  }
  LedgerEntries entries;
  REQUIRE(read_ledger(path, &entries));
  REQUIRE(entries.sent.size() == 2);
  CHECK_FALSE(entries.sent[0].resumed);
  CHECK(entries.sent[1].resumed);
}
