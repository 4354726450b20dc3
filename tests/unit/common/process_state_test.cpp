#include "common/os/process_state.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/catch.h"

using namespace millrace;

namespace {

bool is_ignored(int number) {
  struct sigaction action {};
  REQUIRE(sigaction(number, nullptr, &action) == 0);
  return action.sa_handler == SIG_IGN;
}

}  // namespace

TEST_CASE("inherited dispositions and masks are not kept, but for SIGHUP's and SIGPIPE's",
          "[process]") {
  for (int number : {SIGTERM, SIGINT, SIGCHLD, SIGPIPE, SIGHUP}) signal(number, SIG_IGN);
  sigset_t mask;
  sigfillset(&mask);
  REQUIRE(pthread_sigmask(SIG_SETMASK, &mask, nullptr) == 0);
  reset_process_state();
  for (int number : {SIGTERM, SIGINT, SIGCHLD}) CHECK_FALSE(is_ignored(number));
  CHECK(is_ignored(SIGHUP));
  CHECK(is_ignored(SIGPIPE));
  CHECK(is_ignored(SIGXFSZ));
  REQUIRE(pthread_sigmask(SIG_SETMASK, nullptr, &mask) == 0);
  for (int number : {SIGTERM, SIGINT, SIGCHLD}) CHECK(sigismember(&mask, number) == 0);
}

TEST_CASE("a stray signal ends nothing", "[process]") {
  reset_process_state();
  for (int number :
       {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGRTMIN, SIGRTMAX}) {
    INFO(number);
    CHECK(is_ignored(number));
  }
  for (int number : {SIGTERM, SIGINT, SIGQUIT, SIGSEGV, SIGXCPU}) CHECK_FALSE(is_ignored(number));
}

TEST_CASE("an inherited umask takes no rights from the owner", "[process]") {
  const mode_t before = umask(0777);
  reset_process_state();
  const mode_t now = umask(before);
  CHECK(now == 077);
}

TEST_CASE("the limit of open files that was inherited is known after it is raised", "[process]") {
  reset_process_state();
  CHECK(inherited_descriptor_limit() > 0);
}
