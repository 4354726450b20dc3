#include "common/net/resolver.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/catch.h"

using namespace millrace;

namespace {

// A name server that answers when it is told to.
class NameServer {
 public:
  Resolver::LookUp look_up() {
    return [shared = shared_](const std::string& host) -> Result<std::string> {
      std::unique_lock lock(shared->lock);
      ++shared->asked;
      shared->changed.notify_all();
      shared->changed.wait(lock, [&] { return shared->answers > 0; });
      --shared->answers;
      if (host == "nobody") return Error{ExitCode::unavailable, "nobody has no address"};
      return std::string("192.0.2.7");
    };
  }
  ~NameServer() { answer(1000); }  // nobody is left waiting

  void answer(int times = 1) {
    std::lock_guard lock(shared_->lock);
    shared_->answers += times;
    shared_->changed.notify_all();
  }
  void wait_asked(int times) {
    std::unique_lock lock(shared_->lock);
    shared_->changed.wait(lock, [&] { return shared_->asked >= times; });
  }
  int asked() {
    std::lock_guard lock(shared_->lock);
    return shared_->asked;
  }

 private:
  struct Shared {
    std::mutex lock;
    std::condition_variable changed;
    int asked = 0, answers = 0;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

Result<std::string> poll_until_answered(Resolver& resolver) {
  for (;;) {
    if (auto answer = resolver.poll()) return *answer;
    std::this_thread::yield();
  }
}

}  // namespace

TEST_CASE("an address is its own answer, and nobody is asked", "[resolver]") {
  NameServer names;
  for (const char* address : {"127.0.0.1", "::1", "fe80::1%eth0"}) {
    Resolver resolver(address, names.look_up());
    auto answer = resolver.poll();
    REQUIRE(answer);
    CHECK(answer->value() == address);
  }
  CHECK(names.asked() == 0);
}

TEST_CASE("a name server that does not answer blocks nobody", "[resolver]") {
  NameServer names;
  Resolver resolver("broker", names.look_up());
  CHECK_FALSE(resolver.poll());
  names.wait_asked(1);
  CHECK_FALSE(resolver.poll());
  CHECK(names.asked() == 1);  // one look-up at a time, however often it is polled
  names.answer();
  CHECK(poll_until_answered(resolver).value() == "192.0.2.7");
}

TEST_CASE("the next attempt resolves the name again", "[resolver]") {
  NameServer names;
  Resolver resolver("nobody", names.look_up());
  names.answer(2);
  CHECK_FALSE(poll_until_answered(resolver).ok());
  CHECK_FALSE(poll_until_answered(resolver).ok());
  CHECK(names.asked() == 2);
}

TEST_CASE("a wait ends in its time, and its look-up is not lost", "[resolver]") {
  NameServer names;
  Resolver resolver("broker", names.look_up());
  auto late = resolver.wait(Millis(1));
  REQUIRE_FALSE(late.ok());
  CHECK(late.error().code == ExitCode::temporary);
  CHECK(late.error().message.find("'broker' was not resolved within 1 ms") != std::string::npos);
  names.answer();
  CHECK(resolver.wait(Millis(60'000)).value() == "192.0.2.7");
  CHECK(names.asked() == 1);
}

TEST_CASE("a resolver that ends does not wait for its look-up", "[resolver]") {
  NameServer names;
  {
    Resolver resolver("broker", names.look_up());
    CHECK_FALSE(resolver.poll());
  }
  names.wait_asked(1);
}

TEST_CASE("the system's names", "[resolver]") {
  CHECK(Resolver("localhost").wait(Millis(60'000)).value() == "127.0.0.1");
  auto unknown = Resolver::look_up_host("no such host");
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.error().message.find("'no such host' can't be resolved") != std::string::npos);
}
