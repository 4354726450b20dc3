// millrace-http-load: POSTs at a rate to the gateway or to a direct server, for scripts and tests.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/cli/options.h"
#include "tests/load/open_loop.h"

using namespace millrace;
using namespace millrace::load;

namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  Endpoint server;
  std::string target;
  int64_t rate = 0;
  int64_t size = 0;
  Millis duration{};
  Millis timeout{};
  bool json = false;
};

Json milliseconds(const Histogram& values) {
  auto at = [&values](double fraction) { return double(values.quantile(fraction)) / 1000; };
  return {{"p50", at(0.5)},
          {"p90", at(0.9)},
          {"p99", at(0.99)},
          {"p999", at(0.999)},
          {"max", double(values.max()) / 1000}};
}

Json report(const Outcome& out) {
  Json statuses = Json::object(), seconds = Json::array();
  for (auto [status, count] : out.statuses) statuses[std::to_string(status)] = count;
  for (const Second& second : out.seconds) {
    seconds.push_back({{"offered", second.offered},
                       {"answered", second.answered},
                       {"timed_out", second.timed_out}});
  }
  return {{"offered", out.offered},
          {"answered", out.answered},
          {"refused", out.refused},
          {"timed_out", out.timed_out},
          {"unreachable", out.unreachable},
          {"cut", out.cut},
          {"statuses", statuses},
          {"seconds", out.elapsed_seconds},
          {"latency_ms", milliseconds(out.latency)},
          {"lag_ms", milliseconds(out.lag)},
          {"connections", out.connections},
          {"per_second", seconds}};
}

std::string text_of(const Outcome& out) {
  return fmt::format(
      "offered {}, answered {}, refused {}, timed out {}, unreachable {}, cut {}\n"
      "latency p50 {:.1f} ms, p99 {:.1f} ms, max {:.1f} ms; {} connections\n",
      out.offered, out.answered, out.refused, out.timed_out, out.unreachable, out.cut,
      double(out.latency.quantile(0.5)) / 1000, double(out.latency.quantile(0.99)) / 1000,
      double(out.latency.max()) / 1000, out.connections);
}

Result<ExitCode> post(const Flags& flags) {
  Plan plan{.server = flags.server,
            .target = flags.target,
            .body = std::string(size_t(flags.size), 'x'),
            .rate = uint64_t(flags.rate),
            .count = uint64_t(flags.rate) * uint64_t(flags.duration.count()) / 1000,
            .timeout = flags.timeout};
  auto out = run(plan);
  if (!out) return out.error();
  fmt::print("{}", flags.json ? report(*out).dump() + "\n" : text_of(*out));
  return out->answered == out->offered ? ExitCode::ok : ExitCode::failed;
}

}  // namespace

int main(int argc, char** argv) {
  Options options("millrace-http-load",
                  "Send HTTP requests at a fixed rate, without waiting for the answers");
  Flags flags;
  Command& command = options.command(
      "post", "send POST requests; exit code 1 unless each is answered with 2xx in time",
      [&flags] { return post(flags); });
  command.only_from_command_line();
  command.endpoint("--http", flags.server, "address of the server", "127.0.0.1:5590");
  command.text("--target", flags.target, "PATH", "path to send the requests to",
               "/v1/queues/load/jobs");
  command.integer("--rate", flags.rate, "requests per second", "5000", 1, 1'000'000);
  command.duration("--duration", flags.duration, "for how long requests are sent", "10s",
                   Millis(1));
  command.duration("--timeout", flags.timeout, "timeout of a request, from its scheduled time",
                   "1s", Millis(1));
  command.integer("--size", flags.size, "size of the body, in bytes", "64", 0, 1 << 20);
  command.toggle("--json", flags.json, "print one JSON object");
  return options.run(argc, argv);
}
