#include "producer/session/session.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::producer;
using namespace millrace::protocol;

namespace {

const Mono kStart = Mono() + std::chrono::hours(1);

// A broker that answers as the protocol allows, in any order, with losses of the connection.
class Chaos : public Listener {
 public:
  explicit Chaos(uint64_t seed) : random_(seed), session_(config(), *this) {}

  void run(uint64_t jobs) {
    int rounds = 0;
    while (session_.next_seq().value <= jobs || session_.unanswered() || session_.outstanding()) {
      REQUIRE(++rounds < 200'000);
      now_ += Millis(pick(20));
      step(jobs);
    }
    if (!connected_) welcome();
    flush();
  }

  // Every sequence: sent once, answered once, and ended once if it was confirmed.
  void check(uint64_t jobs) {
    CHECK(sent_.size() == jobs);
    for (uint64_t seq = 1; seq <= jobs; ++seq) {
      INFO("sequence " << seq);
      CHECK(confirmed_.contains(seq) != rejected_.contains(seq));
      if (confirmed_.contains(seq)) CHECK(ended_.contains(seq));
    }
    CHECK(session_.floor().value == jobs + 1);
    CHECK(contradictions_ == 0);
    // The model's jobs: as many as were confirmed, each payload once.
    CHECK(job_of_.size() == confirmed_.size());
    for (auto [seq, job] : job_of_) CHECK(confirmed_[seq] == job);
  }

  void sent(const Sent& s) override { add(sent_, s.seqs); }
  void confirmed(const Confirmed& c) override {
    for (uint64_t i = 0; i < c.seqs.count; ++i) {
      REQUIRE(confirmed_.emplace(c.seqs.first.value + i, c.first_job.value + i).second);
    }
  }
  void rejected(const Rejected& r) override { add(rejected_, r.seqs); }
  void ended(const Ended& e) override {
    add(ended_, e.seqs);
    for (uint64_t i = 0; i < e.seqs.count; ++i) {
      REQUIRE(confirmed_.at(e.seqs.first.value + i) == e.first_job.value + i);
    }
    REQUIRE((e.state == JobState::done || e.state == JobState::dead));
  }
  void contradicted(SeqRange, JobId) override { ++contradictions_; }

 private:
  static SessionConfig config() {
    SessionConfig config;
    config.max_unsent_jobs = 200;
    return config;
  }
  static void add(std::set<uint64_t>& set, SeqRange seqs) {
    for (Seq seq = seqs.first; seq < seqs.end(); ++seq.value) REQUIRE(set.insert(seq.value).second);
  }
  uint64_t pick(uint64_t below) { return random_() % below; }
  bool chance(int percent) { return pick(100) < uint64_t(percent); }

  void step(uint64_t jobs) {
    uint64_t burst = pick(60);
    for (uint64_t i = 0; i < burst && session_.has_room() && session_.next_seq().value <= jobs; ++i)
      submit();
    if (chance(2) && connected_) lose();
    if (!connected_ && chance(30)) welcome();
    flush();
    answer();
    end_jobs();
    flush();
  }

  void submit() {
    SubmitOptions options;
    options.report = chance(50) ? Report::outcome : Report::result;
    std::string queue = chance(90) ? "main" : "other";
    session_.submit(queue, options, "payload " + std::to_string(session_.next_seq().value));
  }

  void welcome() {
    Welcome message;
    message.broker = {1};
    message.window_jobs = 1 + pick(300);
    message.window_bytes = 100 + pick(10'000);
    window_ = message.window_jobs;
    session_.welcomed(message);
    connected_ = true;
  }
  void lose() {
    session_.lost();
    connected_ = false;
    inbox_.clear();
    unanswered_ = 0;
  }

  void flush() {
    ProducerSession::Frames frames;
    session_.flush(now_, {1}, &frames);
    REQUIRE((connected_ || frames.empty()));
    for (const std::string& frame : frames) {
      auto decoded = decode_from_client(frame);
      REQUIRE(decoded.index() == 0);
      const FromClient& message = std::get<0>(decoded).message;
      if (auto* m = std::get_if<Submit>(&message)) take(*m);
      if (auto* m = std::get_if<Query>(&message)) take(*m);
    }
  }
  void take(const Submit& submit) {
    REQUIRE(submit.floor.value >= floor_);
    floor_ = submit.floor.value;
    for (size_t i = 0; i < submit.payloads.size(); ++i) {
      uint64_t seq = submit.first.value + i;
      REQUIRE(submit.payloads[i] == "payload " + std::to_string(seq));
      REQUIRE(seq >= floor_);
      inbox_.push_back(seq);
      ++unanswered_;
    }
    REQUIRE((unanswered_ <= window_ || inbox_.size() == submit.payloads.size()));
  }
  void take(const Query& query) {
    States states;
    Outcome outcome;
    for (JobRange range : query.jobs) {
      for (uint64_t i = 0; i < range.count; ++i) {
        uint64_t job = range.first.value + i;
        states.ranges.push_back({{{job}, 1}, state_of_[job]});
        if (state_of_[job] == JobState::ready || chance(50)) continue;
        outcome.entries.push_back({{{job}, 1}, state_of_[job], 1, true, false, "r", ""});
      }
    }
    if (chance(50)) session_.received(now_, outcome);
    session_.received(now_, states);
    if (chance(50)) session_.received(now_, outcome);
  }

  // Answers some of what waits, from the front or from anywhere.
  void answer() {
    for (uint64_t n = pick(80); n > 0 && !inbox_.empty() && connected_; --n) {
      size_t i = chance(90) ? 0 : pick(inbox_.size());
      uint64_t seq = inbox_[i];
      inbox_.erase(inbox_.begin() + ptrdiff_t(i));
      --unanswered_;
      if (!job_of_.contains(seq) && chance(5)) {
        bool later = chance(70);
        Reject::Range range{
            {seq}, 1, later ? "queue_full" : "bad_option", Millis(later ? 5 : 0), ""};
        session_.received(now_, Reject{{range}});
        continue;
      }
      bool known = job_of_.contains(seq);
      if (!known) job_of_[seq] = next_job_++, state_of_[job_of_[seq]] = JobState::ready;
      if (chance(3)) continue;  // stored, and the answer goes astray with the connection
      session_.received(now_, Confirm{"confirmed", {{{seq}, 1, {job_of_[seq]}, known}}});
    }
    if (inbox_.empty() && unanswered_ == 0 && connected_ && session_.unanswered() && chance(20))
      lose();
  }
  void end_jobs() {
    for (auto& [job, state] : state_of_) {
      if (state != JobState::ready || !chance(30)) continue;
      state = chance(90) ? JobState::done : JobState::dead;
      if (!connected_ || chance(3)) continue;
      session_.received(now_, Outcome{{{{{job}, 1}, state, 1, chance(50), false, "r", ""}}});
    }
    // An end that goes astray does so with its connection.
    if (connected_ && session_.outstanding() && session_.unanswered() == 0 && chance(5)) lose();
  }

  std::mt19937_64 random_;
  ProducerSession session_;
  Mono now_ = kStart;
  bool connected_ = false;
  uint64_t window_ = 0;
  uint64_t floor_ = 0;
  uint64_t unanswered_ = 0;
  std::deque<uint64_t> inbox_;  // sequences that the broker has and has not answered

  std::map<uint64_t, uint64_t> job_of_;  // the broker's durable state
  std::map<uint64_t, JobState> state_of_;
  uint64_t next_job_ = 1;

  std::set<uint64_t> sent_, rejected_, ended_;
  std::map<uint64_t, uint64_t> confirmed_;
  int contradictions_ = 0;
};

struct Recorder : Listener {
  void confirmed(const Confirmed& c) override { confirmed_jobs += c.seqs.count; }
  uint64_t confirmed_jobs = 0;
};

Welcome wide_window() {
  Welcome welcome;
  welcome.broker = {1};
  welcome.window_jobs = 1'000'000;
  welcome.window_bytes = 1 << 30;
  return welcome;
}

}  // namespace

TEST_CASE("whatever a broker does, each submission is answered once and each job ends once",
          "[producer]") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    INFO("seed " << seed);
    Chaos chaos(seed);
    chaos.run(1000);
    chaos.check(1000);
  }
}

TEST_CASE("a session has no room when too many jobs or bytes wait to be sent", "[producer]") {
  Recorder recorder;
  SessionConfig config;
  config.max_unsent_jobs = 3;
  config.max_unsent_bytes = 100;
  ProducerSession session(config, recorder);
  session.submit("q", {}, "a");
  session.submit("q", {}, "b");
  CHECK(session.has_room());
  session.submit("q", {}, "c");
  CHECK_FALSE(session.has_room());

  ProducerSession::Frames frames;
  session.welcomed(wide_window());
  session.flush(kStart, {1}, &frames);
  CHECK(session.has_room());
  session.lost();
  session.submit("q", {}, std::string(100, 'x'));
  CHECK_FALSE(session.has_room());
}

TEST_CASE("time wakes a session only for what was postponed", "[producer]") {
  Recorder recorder;
  ProducerSession session({}, recorder);
  ProducerSession::Frames frames;
  CHECK(session.wake_at() == Mono::max());
  session.submit("q", {}, "a");
  session.submit("q", {}, "b");
  session.welcomed(wide_window());
  session.flush(kStart, {1}, &frames);
  CHECK(session.wake_at() == Mono::max());
  session.received(kStart, Reject{{{{1}, 1, "queue_full", Millis(300), ""}}});
  session.received(kStart, Reject{{{{2}, 1, "queue_full", Millis(200), ""}}});
  CHECK(session.wake_at() == kStart + Millis(200));
  session.flush(kStart + Millis(200), {1}, &frames);
  CHECK(session.wake_at() == kStart + Millis(300));
  CHECK(frames.size() == 1);
  session.flush(kStart + Millis(300), {1}, &frames);
  CHECK(frames.size() == 3);
  CHECK(session.wake_at() == Mono::max());
}

TEST_CASE("a job that another has submitted under the same key is asked for until it ends",
          "[producer]") {
  struct Ends : Listener {
    std::vector<std::pair<uint64_t, uint64_t>> all;
    void ended(const Ended& e) override { all.emplace_back(e.seqs.first.value, e.first_job.value); }
  } ends;
  SessionConfig config;
  ProducerSession session(config, ends);
  Welcome welcome;
  welcome.broker = {1};
  welcome.window_jobs = welcome.window_bytes = 1000;
  session.welcomed(welcome);
  SubmitOptions options;
  options.report = Report::outcome;
  options.key = "order-1";
  session.submit("q", options, "a");
  session.submit("q", options, "a");
  auto asked = [&](Mono now) {
    ProducerSession::Frames frames;
    session.flush(now, {1}, &frames);
    uint64_t jobs = 0;
    for (const std::string& frame : frames) {
      auto decoded = decode_from_client(frame);
      if (auto* query = std::get_if<Query>(&std::get<0>(decoded).message))
        for (const JobRange& range : query->jobs) jobs += range.count;
    }
    return jobs;
  };
  auto hears = [&](Mono now, JobState state) {
    session.received(now, States{{{{{7}, 1}, state}, {{{7}, 1}, state}}});
  };
  CHECK(asked(kStart) == 0);
  session.received(kStart, Confirm{"confirmed", {{{1}, 1, {7}, true}, {{2}, 1, {7}, true}}});
  CHECK(session.outstanding() == 2);
  CHECK(asked(kStart) == 2);
  hears(kStart, JobState::leased);
  CHECK(asked(kStart + Millis(999)) == 0);
  CHECK(session.wake_at() == kStart + Millis(1000));
  CHECK(asked(kStart + Millis(1000)) == 2);
  hears(kStart + Millis(1000), JobState::done);
  CHECK(ends.all == std::vector<std::pair<uint64_t, uint64_t>>{{2, 7}, {1, 7}});
  CHECK(session.outstanding() == 0);
  CHECK(asked(kStart + Millis(9000)) == 0);
}

TEST_CASE("the result of a job that another has submitted is left for him", "[producer]") {
  for (bool known : {false, true}) {
    Listener nobody;
    ProducerSession session({}, nobody);
    Welcome welcome;
    welcome.broker = {1};
    welcome.window_jobs = welcome.window_bytes = 1000;
    session.welcomed(welcome);
    SubmitOptions options;
    options.report = Report::result;
    options.key = "order-1";
    session.submit("q", options, "a");
    ProducerSession::Frames frames;
    session.flush(kStart, {1}, &frames);
    session.received(kStart, Confirm{"confirmed", {{{1}, 1, {7}, known}}});
    session.flush(kStart, {1}, &frames);
    frames.clear();
    session.received(kStart, Outcome{{{{{7}, 1}, JobState::done, 1, true, false, "r", ""}}});
    CHECK(session.outstanding() == 0);
    session.flush(kStart, {1}, &frames);
    CHECK(frames.empty() == known);
  }
}

TEST_CASE("a job that is asked for twice in one QUERY still gets its result", "[producer]") {
  struct Results : Listener {
    uint64_t with = 0, without = 0;
    void ended(const Ended& e) override { ++(e.has_result ? with : without); }
  } results;
  ProducerSession session({}, results);
  Welcome welcome;
  welcome.broker = {1};
  welcome.window_jobs = welcome.window_bytes = 1000;
  session.welcomed(welcome);
  SubmitOptions options;
  options.report = Report::result;
  options.key = "order-1";
  session.submit("q", options, "a");
  session.submit("q", options, "a");
  ProducerSession::Frames frames;
  session.flush(kStart, {1}, &frames);
  session.received(kStart, Confirm{"confirmed", {{{1}, 1, {7}, true}, {{2}, 1, {7}, true}}});
  session.flush(kStart, {1}, &frames);
  session.received(kStart, States{{{{{7}, 1}, JobState::done}, {{{7}, 1}, JobState::done}}});
  session.received(kStart, Outcome{{{{{7}, 1}, JobState::done, 1, true, false, "r", ""}}});
  CHECK(results.with == 2);
  CHECK(results.without == 0);
}

TEST_CASE("what is rejected twice while its neighbour waits takes nothing from the window",
          "[producer]") {
  Listener nobody;
  ProducerSession session({}, nobody);
  Welcome welcome;
  welcome.broker = {1};
  welcome.window_jobs = 8;
  welcome.window_bytes = 1000;
  session.welcomed(welcome);
  Mono now = kStart;
  uint64_t sent = 0;
  auto flush = [&] {
    now += Millis(100);
    ProducerSession::Frames frames;
    session.flush(now, {1}, &frames);
    sent += frames.size();
  };
  for (uint64_t first = 1; first < 40; first += 2) {
    session.submit("q", {}, "a");
    session.submit("q", {}, "b");
    flush();
    for (int i = 0; i < 2; ++i) {
      session.received(now, Reject{{{{first}, 1, "queue_full", Millis(100), ""}}});
      flush();
    }
    session.received(now, Confirm{"confirmed", {{{first + 1}, 1, {first + 1}, false}}});
    session.received(now, Confirm{"confirmed", {{{first}, 1, {first}, false}}});
    INFO("sequence " << first);
    CHECK(session.unanswered() == 0);
    CHECK(sent == 3 * (first + 1) / 2);
  }
}

TEST_CASE("a batch's payloads are as they were submitted, of any bytes and size", "[producer]") {
  Recorder recorder;
  ProducerSession session({}, recorder);
  std::vector<std::string> payloads;
  std::mt19937_64 random(3);
  for (size_t size : {0, 1, 255, 256, 65536, 0, 200'000, 7}) {
    std::string payload(size, '\0');
    for (char& c : payload) c = char(random());
    payloads.push_back(payload);
    session.submit("q", {}, payload);
  }
  session.welcomed(wide_window());
  ProducerSession::Frames frames;
  session.flush(kStart, {9}, &frames);
  std::vector<std::string> arrived;
  for (const std::string& frame : frames) {
    auto decoded = decode_from_client(frame);
    CHECK(std::get<0>(decoded).session == SessionId{9});
    for (std::string_view payload : std::get<Submit>(std::get<0>(decoded).message).payloads) {
      arrived.emplace_back(payload);
    }
  }
  CHECK(arrived == payloads);
}

TEST_CASE("a million submissions pass, and none is kept afterwards", "[producer]") {
  Recorder recorder;
  ProducerSession session({}, recorder);
  session.welcomed(wide_window());
  ProducerSession::Frames frames;
  const std::string payload(256, 'x');
  uint64_t job = 1;
  while (job <= 1'000'000) {
    for (int i = 0; i < 2000; ++i) session.submit("q", {Report::outcome, 0}, payload);
    frames.clear();
    session.flush(kStart, {1}, &frames);
    uint64_t sent = session.next_seq().value - job;
    session.received(kStart, Confirm{"confirmed", {{{job}, sent, {job}, false}}});
    session.received(kStart, Outcome{{{{{job}, sent}, JobState::done, 1}}});
    job += sent;
    // What did not fill a batch waits for an answer, and goes with it.
    session.flush(kStart, {1}, &frames);
  }
  CHECK(recorder.confirmed_jobs == session.floor().value - 1);
  CHECK(session.outstanding() == 0);
}

TEST_CASE("submissions with different keys share a SUBMIT, and each gets its own job",
          "[producer]") {
  struct Jobs : Listener {
    std::map<uint64_t, uint64_t> confirmed_as, ended_as;
    void confirmed(const Confirmed& c) override {
      for (uint64_t i = 0; i < c.seqs.count; ++i)
        confirmed_as[c.seqs.first.value + i] = c.first_job.value + i;
    }
    void ended(const Ended& e) override { ended_as[e.seqs.first.value] = e.first_job.value; }
  } jobs;
  SessionConfig config;
  config.forgetful = true;
  ProducerSession session(config, jobs);
  session.welcomed(wide_window());
  SubmitOptions options;
  options.report = Report::outcome;
  for (const char* key : {"a", "b", "c", "c"}) {
    options.key = key;
    session.submit("q", options, key);
  }
  session.submit("q", {Report::outcome, 0}, "without a key");
  ProducerSession::Frames frames;
  session.flush(kStart, {1}, &frames);
  REQUIRE(frames.size() == 2);
  auto decoded = decode_from_client(frames[0]);
  const Submit& submit = std::get<Submit>(std::get<0>(decoded).message);
  CHECK(submit.keys == std::vector<std::string_view>{"a", "b", "c", "c"});
  CHECK(submit.payloads == std::vector<std::string_view>{"a", "b", "c", "c"});
  // Two were another's jobs, one after the other; the last is the same as the third.
  session.received(
      kStart,
      Confirm{"confirmed", {{{1}, 2, {7}, true}, {{3}, 1, {50}, false}, {{4}, 1, {50}, true}}});
  CHECK(jobs.confirmed_as == std::map<uint64_t, uint64_t>{{1, 7}, {2, 8}, {3, 50}, {4, 50}});
  CHECK(session.outstanding() == 4);
  session.received(kStart,
                   Outcome{{{{{7}, 2}, JobState::done, 1}, {{{50}, 1}, JobState::done, 1}}});
  CHECK(jobs.ended_as == std::map<uint64_t, uint64_t>{{1, 7}, {2, 8}, {3, 50}, {4, 50}});
  CHECK(session.outstanding() == 0);
}

TEST_CASE("a repeated CONFIRM of sequences that share a job is no contradiction", "[producer]") {
  struct Contradictions : Listener {
    uint64_t count = 0;
    void contradicted(SeqRange, JobId) override { ++count; }
  } contradictions;
  const bool forgetful = GENERATE(false, true);
  SessionConfig config;
  config.forgetful = forgetful;
  ProducerSession session(config, contradictions);
  session.welcomed(wide_window());
  SubmitOptions options;
  auto submit = [&](const char* key, Report report) {
    options.key = key;
    options.report = report;
    session.submit("q", options, "payload");
  };
  submit("a", Report::none);  // nobody waits for it
  for (const char* key : {"a", "b", "b", "c"}) submit(key, Report::outcome);
  ProducerSession::Frames frames;
  session.flush(kStart, {1}, &frames);
  session.received(kStart, Confirm{"confirmed",
                                   {{{1}, 1, {50}, false},
                                    {{2}, 1, {50}, true},
                                    {{3}, 1, {51}, false},
                                    {{4}, 1, {51}, true},
                                    {{5}, 1, {52}, false}}});
  CHECK(session.outstanding() == 4);
  // All are known now, and 4 and 5 are consecutive jobs too.
  const Confirm again{"confirmed",
                      {{{1}, 1, {50}, true}, {{2}, 2, {50}, true}, {{4}, 2, {51}, true}}};
  session.received(kStart, again);
  CHECK(contradictions.count == 0);
  session.received(kStart, Outcome{{{{{50}, 3}, JobState::done, 1}}});
  CHECK(session.outstanding() == 0);
  session.received(kStart, again);
  CHECK(contradictions.count == 0);
  session.received(kStart, Confirm{"confirmed", {{{4}, 2, {52}, true}}});
  CHECK(contradictions.count == (forgetful ? 0 : 1));
}

TEST_CASE("a result is collected when someone has taken it", "[producer]") {
  for (bool taken : {true, false}) {
    struct Taker : Listener {
      bool taken = false;
      bool collects(JobRange) override { return taken; }
    } taker;
    taker.taken = taken;
    ProducerSession session({}, taker);
    session.welcomed(wide_window());
    session.submit("q", {Report::result, 0}, "a");
    ProducerSession::Frames frames;
    session.flush(kStart, {1}, &frames);
    session.received(kStart, Confirm{"confirmed", {{{1}, 1, {7}, false}}});
    session.received(kStart, Outcome{{{{{7}, 1}, JobState::done, 1, true, false, "r", ""}}});
    frames.clear();
    session.flush(kStart, {1}, &frames);
    CHECK(frames.size() == (taken ? 1 : 0));
  }
}
