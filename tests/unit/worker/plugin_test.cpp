#include <thread>

#include "tests/unit/worker/process_harness.h"

using namespace millrace;
using namespace millrace::worker;
using Kind = Completion::Kind;

namespace {

std::unique_ptr<Handler> plugin() {
  Spawner spawner;
  auto handler = make_handler("so:" PLUGIN_GOOD, spawner, {});
  REQUIRE(handler);
  return *std::move(handler);
}

std::string refusal(const std::string& file) {
  Spawner spawner;
  auto handler = make_handler("so:" + file, spawner, {});
  REQUIRE_FALSE(handler);
  CHECK(handler.error().code == ExitCode::config);
  CHECK(handler.error().message.find(file) != std::string::npos);
  return handler.error().message;
}

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE_METHOD(ProcessHarness, "a plugin is given all of a job, and its result is copied",
                 "[plugin]") {
  auto handler = plugin();
  Completion end = run(*handler, std::string_view("any\0bytes", 9));
  CHECK(end.kind == Kind::done);
  CHECK(end.text == std::string("opened 3f9a1c07-42 images 2 52776558133255 any\0bytes", 52));
  CHECK(run(*handler, "").kind == Kind::done);
}

TEST_CASE_METHOD(ProcessHarness, "a plugin says how a job has failed", "[plugin]") {
  auto handler = plugin();
  Completion later = run(*handler, "retryable");
  CHECK(later.kind == Kind::retryable);
  CHECK(later.text == "later");
  Completion never = run(*handler, "permanent");
  CHECK(never.kind == Kind::permanent);
  CHECK(never.text == "never");
  Completion nothing = run(*handler, "nothing");
  CHECK(nothing.kind == Kind::retryable);
  CHECK(nothing.text == "the plugin returned 7 without an answer");
}

TEST_CASE_METHOD(ProcessHarness, "a plugin is told to stop", "[plugin]") {
  auto handler = plugin();
  Completion end;
  std::thread runner([&] { end = run(*handler, "listen"); });
  stop_.set();
  runner.join();
  CHECK(end.text == "stopped");
}

TEST_CASE("what is no plugin of this version is refused with its reason", "[plugin]") {
  std::string other = refusal(PLUGIN_OTHER_VERSION);
  CHECK(holds(other, "version 2"));
  CHECK(holds(other, "version 1"));
  CHECK(holds(refusal(PLUGIN_REFUSES), "no database"));
  CHECK(holds(refusal(PLUGIN_NO_ENTRY), "millrace_handler_get"));
  CHECK(holds(refusal("/nonexistent/plugin.so"), "No such file"));
  CHECK(holds(refusal("/etc/hostname"), "/etc/hostname"));
}
