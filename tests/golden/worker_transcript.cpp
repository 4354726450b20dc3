// Runs the transcripts worker_*.txt beside this file against a WorkerSession.
// A line "> command" is relocated out; what follows it in the file is what the session must do:
//   → MESSAGE   a frame that it sends, decoded from its bytes
//   · event     what it hands to its pool, or takes back
// Leases are written JOB@INCARNATION.COUNTER. Commands in capitals come from the broker. Everything
// else is comment. With MILLRACE_REWRITE_GOLDEN set the files are written anew; read the difference
// before you commit it.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "common/protocol/codec.h"
#include "tests/catch.h"
#include "worker/session/worker_session.h"

using namespace millrace;
using namespace millrace::protocol;
using namespace millrace::worker;

namespace {

std::string text_of(Lease lease) {
  return fmt::format("{}@{}.{}", lease.job.value, lease.epoch.value / kEpochSkip + 1,
                     lease.epoch.value % kEpochSkip);
}

Lease lease_of(const std::string& text) {
  std::istringstream in(text);
  uint64_t job = 0, start = 0, counter = 0;
  char at = 0, dot = 0;
  in >> job >> at >> start >> dot >> counter;
  REQUIRE(in);
  return {{job}, {(start - 1) * kEpochSkip + counter}};
}

std::string text_of(std::vector<Lease> leases) {
  if (leases.empty()) return "none";
  std::sort(leases.begin(), leases.end(), [](Lease a, Lease b) { return a.job < b.job; });
  std::string text;
  for (Lease lease : leases) text += (text.empty() ? "" : " ") + text_of(lease);
  return text;
}

// What a frame says, as a line.
struct Describe {
  std::string operator()(const Register& m) const {
    return fmt::format("REGISTER {} queues={} threads={} claims: {}", m.name,
                       fmt::join(m.queues, ","), m.threads, text_of(m.claims));
  }
  std::string operator()(const Credit& m) const { return fmt::format("CREDIT {}", m.jobs); }
  std::string operator()(const Done& m) const {
    std::string line = fmt::format("DONE batch={}", m.batch);
    for (const Done::Entry& entry : m.jobs) {
      line += " " + text_of(entry.lease);
      if (entry.has_result) line += fmt::format("=[{}]", entry.result);
    }
    return line;
  }
  std::string operator()(const Fail& m) const {
    constexpr std::string_view kKinds[] = {"retryable", "permanent", "crash"};
    std::string line = fmt::format("FAIL batch={}", m.batch);
    for (const Fail::Entry& entry : m.jobs) {
      line +=
          fmt::format(" {}={} [{}]", text_of(entry.lease), kKinds[size_t(entry.kind)], entry.error);
    }
    return line;
  }
  std::string operator()(const Release& m) const {
    return fmt::format("RELEASE batch={} {}", m.batch, text_of(m.jobs));
  }
  std::string operator()(const Extend& m) const { return "EXTEND " + text_of(m.jobs); }
  std::string operator()(const Bye&) const { return "BYE"; }
  template <typename Other>
  std::string operator()(const Other&) const {
    return "a message that no worker sends";
  }
};

struct Command {
  std::vector<std::string> words;
  std::map<std::string, std::string> options;

  static Command parse(const std::string& line) {
    Command command;
    std::istringstream in(line);
    for (std::string word; in >> word;) {
      size_t equals = word.find('=');
      if (equals == std::string::npos) {
        command.words.push_back(word);
      } else {
        command.options[word.substr(0, equals)] = word.substr(equals + 1);
      }
    }
    return command;
  }
  std::string text(const std::string& name, const std::string& fallback) const {
    auto at = options.find(name);
    return at == options.end() ? fallback : at->second;
  }
  uint64_t number(const std::string& name, uint64_t fallback) const {
    return std::stoull(text(name, std::to_string(fallback)));
  }
  std::vector<Lease> leases(size_t from) const {
    std::vector<Lease> found;
    for (size_t i = from; i < words.size(); ++i) found.push_back(lease_of(words[i]));
    return found;
  }
};

class Scenario {
 public:
  // The file as it should be: its commands and comments, and what the session does.
  std::string run(const std::string& file) {
    std::istringstream in(file);
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with("→") || line.starts_with("·")) continue;
      print(line);
      if (line.starts_with("> ")) carry_out(Command::parse(line.substr(2)));
    }
    return output_;
  }

 private:
  void carry_out(const Command& command) {
    const std::string& verb = command.words.at(0);
    Output out;
    if (verb == "worker") {
      start(command);
    } else if (verb == "open") {
      session_->opened({++sessions_}, &out);
    } else if (verb == "lost") {
      session_->closed();
    } else if (verb == "wait") {
      now_ += std::chrono::seconds(std::stoll(command.words.at(1)));
      session_->tick(now_, &out);
    } else if (verb == "drain") {
      session_->drain(command.leases(1), &out);
    } else if (verb == "give-back") {
      session_->give_back(command.leases(1), &out);
    } else if (verb == "give-up") {
      session_->give_up(&out);
    } else if (verb == "done" || verb == "retryable" || verb == "permanent" || verb == "crash") {
      finish(command, &out);
    } else {
      from_broker(command, &out);
    }
    show(out);
    if (session_->drained() && !std::exchange(is_drained_, true)) print("· drained");
  }

  void start(const Command& command) {
    SessionSettings settings{Uuid{}, "w1", {"q", "r"}, command.number("threads", 2), {}};
    if (command.options.contains("prefetch")) settings.prefetch = command.number("prefetch", 0);
    session_.emplace(settings);
  }

  void finish(const Command& command, Output* out) {
    constexpr std::string_view kVerbs[] = {"done", "retryable", "permanent", "crash"};
    auto kind = std::find(std::begin(kVerbs), std::end(kVerbs), command.words[0]);
    std::vector<Finished> ends;
    for (Lease lease : command.leases(1)) {
      Completion end{Completion::Kind(kind - std::begin(kVerbs)), command.text("text", "")};
      ends.push_back({lease, end, Millis(command.number("ms", 2))});
    }
    session_->completed(std::move(ends), out);
  }

  void from_broker(const Command& command, Output* out) {
    const std::string& verb = command.words[0];
    FromBroker message;
    if (verb == "WELCOME") {
      Welcome welcome{.broker = {uint32_t(command.number("broker", 1))}};
      welcome.lease = Millis(command.number("lease_ms", 30'000));
      welcome.stale = command.leases(1);
      message = welcome;
    } else if (verb == "LEASE") {
      LeaseGrant grant{command.words.at(1), {}};
      for (Lease lease : command.leases(2)) {
        grant.jobs.push_back({lease, command.number("attempt", 1),
                              command.text("result", "no") == "wanted", "payload"});
      }
      message = grant;
    } else if (verb == "DONE_OK") {
      message = DoneOk{std::stoull(command.words.at(1))};
    } else if (verb == "RECALL") {
      message = Recall{command.leases(1)};
    } else {
      REQUIRE(verb == "STALE");
      message = Stale{command.leases(1)};
    }
    auto frame = std::make_shared<std::string>(encode({sessions_}, message));
    auto decoded = decode_from_broker(*frame);
    session_->received(std::get<0>(decoded).message, frame, now_, out);
  }

  void show(const Output& out) {
    for (const std::string& frame : out.frames) show_frame(frame);
    for (const Job& job : out.start) {
      print(fmt::format("· start {} of queue {}, attempt {}", text_of(job.lease), job.queue,
                        job.attempt));
    }
    if (!out.forget.empty()) print("· forget " + text_of(out.forget));
    if (!out.recall.empty()) print("· recall " + text_of(out.recall));
  }
  void show_frame(const std::string& frame) {
    auto decoded = decode_from_client(frame);
    REQUIRE(decoded.index() == 0);
    CHECK(std::get<0>(decoded).session == SessionId{sessions_});
    print("→ " + std::visit(Describe{}, std::get<0>(decoded).message));
  }

  void print(const std::string& line) { output_ += line + "\n"; }

  std::optional<WorkerSession> session_;
  uint64_t sessions_ = 0;
  bool is_drained_ = false;
  Mono now_{};
  std::string output_;
};

std::string read_whole(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a worker session keeps to its transcripts", "[golden]") {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MILLRACE_GOLDEN_DIR)) {
    std::string name = entry.path().filename();
    if (!name.starts_with("worker_") || entry.path().extension() != ".txt") continue;
    ++found;
    INFO(name);
    std::string expected = read_whole(entry.path());
    std::string actual = Scenario().run(expected);
    if (std::getenv("MILLRACE_REWRITE_GOLDEN")) std::ofstream(entry.path()) << actual;
    CHECK(actual == expected);
  }
  CHECK(found >= 4);
}
