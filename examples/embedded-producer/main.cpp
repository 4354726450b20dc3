// A program that embeds a Millrace producer: it waits for the result of one job, then submits many
// from four threads, with a callback for their receipts.
//
//   cmake -S examples/embedded-producer -B build/embedded && cmake --build build/embedded
//   build/embedded/embedded-producer 127.0.0.1:5570 10000
#include <millrace/producer.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

int main(int argc, char** argv) {
  millrace::ProducerSettings settings;
  if (argc > 1) settings.broker = argv[1];
  settings.connect_timeout = std::chrono::seconds(2);
  const int jobs = argc > 2 ? std::atoi(argv[2]) : 10'000;
  millrace::Producer producer(settings);

  auto first = producer.run("greet", "world");
  millrace::JobEnd end = first.get();
  if (!end.done()) {
    std::fprintf(stderr, "embedded-producer: the job is %s %s%s\n", end.state.c_str(),
                 end.error.c_str(), producer.error().c_str());
    return producer.error().empty() ? 1 : 69;
  }
  std::printf("%s: %s", end.id.c_str(), end.result.value_or("").c_str());

  std::atomic<int> confirmed{0}, rejected{0}, unknown{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < jobs; i += 4) {
        producer.submit("greet", std::to_string(i), {}, [&](const millrace::Receipt& receipt) {
          if (receipt.accepted()) ++confirmed;
          if (receipt.state == millrace::Receipt::State::rejected) ++rejected;
          if (receipt.state == millrace::Receipt::State::unknown) ++unknown;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const bool all = producer.close(std::chrono::seconds(30));
  std::printf("%d confirmed, %d rejected, %d unknown\n", confirmed.load(), rejected.load(),
              unknown.load());
  return all && confirmed == jobs ? 0 : 1;
}
