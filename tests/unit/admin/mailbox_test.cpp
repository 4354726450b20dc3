#include "broker/admin/admin_queue.h"

#include <semaphore>
#include <thread>

#include "tests/catch.h"

namespace millrace::admin {
namespace {

constexpr Millis kLong{60'000};  // ends only by what the test does
using Outcome = Mailbox::Outcome;

Operation show(uint64_t id) { return ShowJob{{std::nullopt, {id}}}; }
Answer answer_to(const Letter& letter) {
  return http::ok("text/plain", std::to_string(std::get<ShowJob>(letter.operation).job.job.value));
}

// A thread that answers when it is poked, like the core's loop.
class Answerer {
 public:
  Answerer() : thread_([this] { run(); }) {}
  ~Answerer() {
    over_ = true;
    poked_.release();
    thread_.join();
  }
  Mailbox mailbox{[this] { poked_.release(); }};

 private:
  void run() {
    for (;;) {
      poked_.acquire();
      if (over_) return;
      for (const Letter& letter : mailbox.take()) mailbox.answer(letter.number, answer_to(letter));
    }
  }
  std::counting_semaphore<> poked_{0};
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

}  // namespace

TEST_CASE("each asker gets the answer to its own question", "[admin]") {
  Answerer core;
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 250; ++i) {
        auto reply = core.mailbox.ask(show(t * 1000 + i), kLong);
        if (reply.outcome == Outcome::answered && reply.answer.body == std::to_string(t * 1000 + i))
          ++right;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(right == 1000);
}

TEST_CASE("what was not taken in time is withdrawn, and others don't wait for a silent core",
          "[admin]") {
  int pokes = 0;
  Mailbox mailbox([&] { ++pokes; });
  CHECK(mailbox.ask(show(1), Millis(1)).outcome == Outcome::not_done);
  CHECK(mailbox.ask(show(2), kLong).outcome == Outcome::not_done);  // would hang if it waited
  CHECK(pokes == 2);
  CHECK(mailbox.take().empty());  // neither is done later
}

TEST_CASE("a core that is back is asked again", "[admin]") {
  bool answers = false;
  Mailbox* box = nullptr;
  Mailbox mailbox([&] {
    if (!answers) return;
    for (const Letter& letter : box->take()) box->answer(letter.number, answer_to(letter));
  });
  box = &mailbox;
  CHECK(mailbox.ask(show(1), Millis(1)).outcome == Outcome::not_done);
  answers = true;
  CHECK(mailbox.ask(show(2), kLong).outcome ==
        Outcome::not_done);  // it finds the core silent, and wakes it
  CHECK(mailbox.ask(show(3), kLong).outcome == Outcome::answered);
}

TEST_CASE("what was taken and not answered in time is unknown, and holds up the others until it is",
          "[admin]") {
  Mailbox* box = nullptr;
  std::vector<Letter> taken;
  bool answers = false;
  Mailbox mailbox([&] {
    for (Letter& letter : box->take()) {
      taken.push_back(std::move(letter));
      if (answers) box->answer(taken.back().number, answer_to(taken.back()));
    }
  });
  box = &mailbox;
  CHECK(mailbox.ask(show(1), Millis(1)).outcome == Outcome::unknown);
  CHECK(mailbox.ask(show(2), kLong).outcome == Outcome::not_done);
  REQUIRE(taken.size() == 1);
  mailbox.answer(taken[0].number, answer_to(taken[0]));
  answers = true;
  auto reply = mailbox.ask(show(3), kLong);
  CHECK(reply.outcome == Outcome::answered);
  CHECK(reply.answer.body == "3");
}

TEST_CASE("what takes long is answered with that, and holds up nobody", "[admin]") {
  Mailbox* box = nullptr;
  std::vector<Letter> taken;
  bool now = false;
  Mailbox mailbox([&] {
    for (Letter& letter : box->take()) {
      box->accepted(letter.number, http::ok("text/plain", "begun"));
      if (now) box->answer(letter.number, answer_to(letter));
      taken.push_back(std::move(letter));
    }
  });
  box = &mailbox;
  auto reply = mailbox.ask(show(1), kLong, Millis(1));
  CHECK(reply.outcome == Outcome::answered);
  CHECK(reply.answer.body == "begun");
  mailbox.answer(taken[0].number, answer_to(taken[0]));  // nobody asks for it any more
  now = true;
  CHECK(mailbox.ask(show(2), kLong, kLong).answer.body == "2");
  CHECK(mailbox.ask(show(3), kLong, Millis(0)).answer.body == "begun");
}

TEST_CASE("closing ends all waiting", "[admin]") {
  std::binary_semaphore posted{0};
  Mailbox mailbox([&] { posted.release(); });
  std::thread closer([&] {
    posted.acquire();
    mailbox.close();
  });
  CHECK(mailbox.ask(show(1), kLong).outcome == Outcome::not_done);
  closer.join();
  CHECK(mailbox.ask(show(2), kLong).outcome == Outcome::not_done);
}

}  // namespace millrace::admin
