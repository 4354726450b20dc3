// What the HTTP server alone can do: it answers each request with 202 and a body of the gateway's
// size, and asks nobody. scripts/bench-gateway.sh compares the gateway with it.
//  http_baseline PORT CONNECTIONS
#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "common/http/server.h"

using namespace millrace;

int main(int argc, char** argv) {
  if (argc != 3) return std::fputs("http_baseline PORT CONNECTIONS\n", stderr), 64;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  http::ServerOptions options;
  options.address = {"127.0.0.1", uint16_t(std::atoi(argv[1]))};
  options.limits.connections = size_t(std::atoi(argv[2]));
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  sigprocmask(SIG_BLOCK, &end, nullptr);
  auto server = http::Server::start(options, [](const http::Request&) {
    http::Response response{202,
                            "application/json",
                            R"({"id":"3f9a1c07-12345678","state":"confirmed","known":false})"
                            "\n",
                            {},
                            false};
    response.headers.emplace_back("Location", "/v1/jobs/3f9a1c07-12345678");
    return response;
  });
  if (!server) return std::fprintf(stderr, "%s\n", server.error().message.c_str()), 73;
  int signal = 0;
  sigwait(&end, &signal);
  (*server)->stop();
}
