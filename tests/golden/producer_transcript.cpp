// Runs the transcripts producer_*.txt beside this file against a ProducerSession.
// A line "> command" is relocated out; what follows it in the file is what the session must do:
//   → MESSAGE   a frame that it sends, decoded from its bytes
//   · event     a call of its listener
// Everything else is comment. After each command the session flushes, as its owner does.
// With MILLRACE_REWRITE_GOLDEN set the files are written anew; read the difference before you
// commit it.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "producer/session/session.h"
#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;

namespace {

constexpr SessionId kSession{1};

std::string range_text(uint64_t first, uint64_t count) {
  return count == 1 ? fmt::format("{}", first) : fmt::format("{}–{}", first, first + count - 1);
}
std::string range_text(SeqRange seqs) { return range_text(seqs.first.value, seqs.count); }
std::string range_text(JobRange jobs) { return range_text(jobs.first.value, jobs.count); }

std::string payload_text(std::string_view payload) {
  if (payload.size() <= 20) return std::string(payload);
  return fmt::format("{} bytes", payload.size());
}

std::string ranges_text(const std::vector<JobRange>& ranges) {
  std::string text;
  for (JobRange range : ranges) text += (text.empty() ? "" : ", ") + range_text(range);
  return text;
}

// What a frame says, as a line.
struct Describe {
  std::string operator()(const Hello&) const { return "HELLO"; }
  std::string operator()(const Submit& m) const {
    constexpr std::string_view kReports[] = {"", " report=outcome", " report=result"};
    std::string line = fmt::format("SUBMIT floor={} first={} queue={}{}", m.floor.value,
                                   m.first.value, m.queue, kReports[size_t(m.options.report)]);
    if (m.options.max_attempts) line += fmt::format(" max_attempts={}", m.options.max_attempts);
    if (m.payloads.size() > 8) return line + fmt::format(" {} payloads", m.payloads.size());
    for (std::string_view payload : m.payloads) line += " [" + payload_text(payload) + "]";
    return line;
  }
  std::string operator()(const Query& m) const { return "QUERY " + ranges_text(m.jobs); }
  std::string operator()(const Collected& m) const { return "COLLECTED " + ranges_text(m.jobs); }
  template <typename Other>
  std::string operator()(const Other&) const {
    return "a message that no producer session sends";
  }
};

std::string describe(std::string_view frame) {
  auto decoded = decode_from_client(frame);
  if (auto* fault = std::get_if<Fault>(&decoded)) return "MALFORMED " + fault->message;
  return std::visit(Describe{}, std::get<0>(decoded).message);
}

// The words of a command: positional ones, and name=value.
struct Command {
  std::vector<std::string> words;
  std::map<std::string, std::string> options;

  explicit Command(const std::string& line) {
    std::istringstream in(line);
    for (std::string word; in >> word;) {
      auto equals = word.find('=');
      if (equals == std::string::npos) {
        words.push_back(word);
      } else {
        options[word.substr(0, equals)] = word.substr(equals + 1);
      }
    }
  }
  uint64_t number(size_t i) const { return std::stoull(words.at(i)); }
  uint64_t number(const std::string& name, uint64_t fallback) const {
    auto found = options.find(name);
    return found == options.end() ? fallback : std::stoull(found->second);
  }
  std::string text(const std::string& name) const {
    auto found = options.find(name);
    return found == options.end() ? "" : found->second;
  }
};

class Scenario : public Listener {
 public:
  std::string run(const std::string& file) {
    std::istringstream in(file);
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with("→ ") || line.starts_with("· ")) continue;
      print(line);
      if (line.starts_with("> ")) carry_out(Command(line.substr(2)));
    }
    return output_;
  }

  void sent(const Sent& s) override { event("leaving: {} to {}", range_text(s.seqs), s.queue); }
  void confirmed(const Confirmed& c) override {
    event("{}: {} as job {}{}", c.durability, range_text(c.seqs),
          range_text(c.first_job.value, c.seqs.count), c.known ? ", known before" : "");
  }
  void rejected(const Rejected& r) override {
    event("rejected: {} {} ({})", range_text(r.seqs), r.reason, r.message);
  }
  void postponed(const Rejected& r) override {
    event("postponed by {} ms: {} {}", r.retry_after.count(), range_text(r.seqs), r.reason);
  }
  void ended(const Ended& e) override {
    event("{}: {} was job {} of {:08x}, attempts {}{}{}", name_of(e.state), range_text(e.seqs),
          range_text(e.first_job.value, e.seqs.count), e.broker.value, e.attempts,
          e.has_result ? fmt::format(", result [{}]", e.result) : "",
          e.error.empty() ? "" : fmt::format(", error [{}]", e.error));
  }
  void told(JobRange jobs, JobState state) override {
    event("told: job {} is {}", range_text(jobs), name_of(state));
  }
  void contradicted(SeqRange seqs, JobId job) override {
    event("contradicted: {} as job {}", range_text(seqs), job.value);
  }

 private:
  void carry_out(const Command& command) {
    const std::string& verb = command.words.at(0);
    if (verb == "session") start(command);
    if (verb == "submit") submit(command);
    if (verb == "inquire") session_->inquire({{command.number(1)}, command.number(2)});
    if (verb == "welcome") welcome(command);
    if (verb == "lost") session_->lost();
    if (verb == "wait") now_ += Millis(command.number(1));
    if (verb == "confirm") confirm(command);
    if (verb == "reject") reject(command);
    if (verb == "outcome") outcome(command);
    if (verb == "states") states(command);
    if (verb == "state") state();
    if (!session_) return;
    ProducerSession::Frames frames;
    session_->flush(now_, kSession, &frames);
    for (const std::string& frame : frames) print("→ " + describe(frame));
  }

  void start(const Command& command) {
    SessionConfig config;
    config.on_reject = command.text("reject") == "report" ? OnReject::report : OnReject::retry;
    config.window_jobs = command.number("window", UINT64_MAX);
    session_.emplace(config, *this);
  }
  void submit(const Command& command) {
    SubmitOptions options;
    if (command.text("report") == "outcome") options.report = Report::outcome;
    if (command.text("report") == "result") options.report = Report::result;
    options.max_attempts = uint8_t(command.number("max_attempts", 0));
    uint64_t times = command.number("times", 1);
    for (size_t i = 2; i < command.words.size(); ++i) {
      for (uint64_t n = 0; n < times; ++n) {
        session_->submit(command.words[1], options, payload_of(command.words[i]));
      }
    }
    if (uint64_t size = command.number("size", 0)) {
      for (uint64_t n = 0; n < times; ++n) {
        session_->submit(command.words[1], options, std::string(size, 'x'));
      }
    }
  }
  static std::string payload_of(const std::string& word) { return word == "\"\"" ? "" : word; }

  void welcome(const Command& command) {
    Welcome message;
    message.broker = {uint32_t(command.number("broker", 1))};
    message.window_jobs = command.number("window", 100'000);
    message.window_bytes = command.number("bytes", 64 << 20);
    message.max_job_size = command.number("max", kDefaultMaxJobSize);
    session_->welcomed(message);
  }
  void confirm(const Command& command) {
    bool known = command.words.size() > 3;
    Confirm message{"confirmed",
                    {{{command.number(1)}, command.number(2), {command.number("job", 0)}, known}}};
    session_->received(now_, message);
  }
  void reject(const Command& command) {
    Reject::Range range{{command.number(1)},
                        command.number(2),
                        command.words.at(3),
                        Millis(command.number("retry", 0)),
                        "as it is"};
    session_->received(now_, Reject{{range}});
  }
  void outcome(const Command& command) {
    Outcome::Entry entry;
    entry.jobs = {{command.number(1)}, command.number(2)};
    REQUIRE(parse_job_state(command.words.at(3), &entry.state));
    entry.attempts = command.number("attempts", 1);
    entry.has_result = command.options.contains("result");
    std::string result = command.text("result"), error = command.text("error");
    entry.result = result;
    entry.has_error = command.options.contains("error");
    entry.error = error;
    session_->received(now_, Outcome{{entry}});
  }
  void states(const Command& command) {
    States message;
    for (size_t i = 1; i + 2 < command.words.size(); i += 3) {
      JobState state;
      REQUIRE(parse_job_state(command.words[i + 2], &state));
      message.ranges.push_back({{{command.number(i)}, command.number(i + 1)}, state});
    }
    session_->received(now_, message);
  }
  void state() {
    event("floor {}, unanswered {}, awaited {}", session_->floor().value, session_->unanswered(),
          session_->outstanding());
  }

  template <typename... Args>
  void event(fmt::format_string<Args...> form, Args&&... args) {
    print("· " + fmt::format(form, std::forward<Args>(args)...));
  }
  void print(const std::string& line) { output_ += line + "\n"; }

  std::optional<ProducerSession> session_;
  Mono now_{};
  std::string output_;
};

std::string read_whole(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a producer session keeps to its transcripts", "[golden]") {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MILLRACE_GOLDEN_DIR)) {
    std::string name = entry.path().filename();
    if (!name.starts_with("producer_") || entry.path().extension() != ".txt") continue;
    ++found;
    INFO(name);
    std::string expected = read_whole(entry.path());
    std::string actual = Scenario().run(expected);
    if (std::getenv("MILLRACE_REWRITE_GOLDEN")) std::ofstream(entry.path()) << actual;
    CHECK(actual == expected);
  }
  CHECK(found >= 5);
}
