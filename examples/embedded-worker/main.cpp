// A program that embeds a Millrace worker: two queues, with its own functions as handlers.
//
//   cmake -S examples/embedded-worker -B build/embedded && cmake --build build/embedded
//   build/embedded/embedded-worker 127.0.0.1:5571
#include <millrace/worker.h>

#include <cstdio>

namespace {

std::string greet(const millrace::WorkerJob& job) {
  if (job.payload.empty()) throw millrace::PermanentFailure("a name is needed");
  return "hello, " + std::string(job.payload);
}

std::string reverse(const millrace::WorkerJob& job) {
  return {job.payload.rbegin(), job.payload.rend()};
}

}  // namespace

int main(int argc, char** argv) {
  millrace::WorkerSettings settings;
  if (argc > 1) settings.broker = argv[1];
  settings.pool = "auto:1-16";
  millrace::Worker worker(settings);
  worker.on("greet", greet);
  worker.on("reverse", reverse, 2);  // with two threads of its own
  int code = worker.run();           // until SIGTERM, then it drains
  if (code != 0) std::fprintf(stderr, "embedded-worker: %s\n", worker.error().c_str());
  return code;
}
