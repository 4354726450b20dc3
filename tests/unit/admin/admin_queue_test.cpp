#include "broker/admin/admin_queue.h"

#include <semaphore>
#include <thread>

#include "tests/catch.h"

namespace millrace::admin {
namespace {

constexpr Millis kLong{60'000};  // ends only by what the test does
using Outcome = AdminQueue::Outcome;

Operation show(uint64_t id) { return ShowJob{{std::nullopt, {id}}}; }
Answer answer_to(const AdminRequest& request) {
  return http::ok("text/plain", std::to_string(std::get<ShowJob>(request.operation).job.job.value));
}

// A thread that answers when it is woken, like the core's loop.
class Answerer {
 public:
  Answerer() : thread_([this] { run(); }) {}
  ~Answerer() {
    over_ = true;
    woken_.release();
    thread_.join();
  }
  AdminQueue admin_queue{[this] { woken_.release(); }};

 private:
  void run() {
    for (;;) {
      woken_.acquire();
      if (over_) return;
      for (const AdminRequest& request : admin_queue.take())
        admin_queue.answer(request.number, answer_to(request));
    }
  }
  std::counting_semaphore<> woken_{0};
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
        auto reply = core.admin_queue.ask(show(t * 1000 + i), kLong);
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
  int wakes = 0;
  AdminQueue admin_queue([&] { ++wakes; });
  CHECK(admin_queue.ask(show(1), Millis(1)).outcome == Outcome::not_done);
  CHECK(admin_queue.ask(show(2), kLong).outcome == Outcome::not_done);  // would hang if it waited
  CHECK(wakes == 2);
  CHECK(admin_queue.take().empty());  // neither is done later
}

TEST_CASE("a core that is back is asked again", "[admin]") {
  bool answers = false;
  AdminQueue* box = nullptr;
  AdminQueue admin_queue([&] {
    if (!answers) return;
    for (const AdminRequest& request : box->take()) box->answer(request.number, answer_to(request));
  });
  box = &admin_queue;
  CHECK(admin_queue.ask(show(1), Millis(1)).outcome == Outcome::not_done);
  answers = true;
  CHECK(admin_queue.ask(show(2), kLong).outcome ==
        Outcome::not_done);  // it finds the core silent, and wakes it
  CHECK(admin_queue.ask(show(3), kLong).outcome == Outcome::answered);
}

TEST_CASE("what was taken and not answered in time is unknown, and holds up the others until it is",
          "[admin]") {
  AdminQueue* box = nullptr;
  std::vector<AdminRequest> taken;
  bool answers = false;
  AdminQueue admin_queue([&] {
    for (AdminRequest& request : box->take()) {
      taken.push_back(std::move(request));
      if (answers) box->answer(taken.back().number, answer_to(taken.back()));
    }
  });
  box = &admin_queue;
  CHECK(admin_queue.ask(show(1), Millis(1)).outcome == Outcome::unknown);
  CHECK(admin_queue.ask(show(2), kLong).outcome == Outcome::not_done);
  REQUIRE(taken.size() == 1);
  admin_queue.answer(taken[0].number, answer_to(taken[0]));
  answers = true;
  auto reply = admin_queue.ask(show(3), kLong);
  CHECK(reply.outcome == Outcome::answered);
  CHECK(reply.answer.body == "3");
}

TEST_CASE("what takes long is answered with that, and holds up nobody", "[admin]") {
  AdminQueue* box = nullptr;
  std::vector<AdminRequest> taken;
  bool now = false;
  AdminQueue admin_queue([&] {
    for (AdminRequest& request : box->take()) {
      box->accepted(request.number, http::ok("text/plain", "begun"));
      if (now) box->answer(request.number, answer_to(request));
      taken.push_back(std::move(request));
    }
  });
  box = &admin_queue;
  auto reply = admin_queue.ask(show(1), kLong, Millis(1));
  CHECK(reply.outcome == Outcome::answered);
  CHECK(reply.answer.body == "begun");
  admin_queue.answer(taken[0].number, answer_to(taken[0]));  // nobody asks for it any more
  now = true;
  CHECK(admin_queue.ask(show(2), kLong, kLong).answer.body == "2");
  CHECK(admin_queue.ask(show(3), kLong, Millis(0)).answer.body == "begun");
}

TEST_CASE("closing ends all waiting", "[admin]") {
  std::binary_semaphore posted{0};
  AdminQueue admin_queue([&] { posted.release(); });
  std::thread closer([&] {
    posted.acquire();
    admin_queue.close();
  });
  CHECK(admin_queue.ask(show(1), kLong).outcome == Outcome::not_done);
  closer.join();
  CHECK(admin_queue.ask(show(2), kLong).outcome == Outcome::not_done);
}

}  // namespace millrace::admin
