// Runs a fuzz target without libFuzzer: FUZZER [--runs N] [--seconds S] [--seed N] [FILE|DIR…]
// Shape:   first the files as they are, then the seeds, then mutations of both
// Errors:  when the target aborts, the input stands in fuzz-crash-PID; give that file to see it again
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/mutator.h"
#include "tests/fuzz/target.h"

namespace fs = std::filesystem;
using millrace::fuzz::Mutator;

extern "C" const char* __asan_default_options() { return "abort_on_error=1:handle_abort=0"; }
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:handle_abort=0"; }

namespace {

struct Arguments {
  uint64_t runs = 100'000, seconds = 3600, seed = 1;
  std::string write_to;
  std::vector<std::string> paths;
};

// For the handler of SIGABRT, which may use nothing else.
const std::string* running = nullptr;
char crash_name[64];

void keep_input(int number) {
  int fd = ::open(crash_name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd >= 0 && running) {
    [[maybe_unused]] ssize_t written = ::write(fd, running->data(), running->size());
    constexpr char kTold[] = "the input that did it stands in fuzz-crash-PID\n";
    written = ::write(STDERR_FILENO, kTold, sizeof kTold - 1);
  }
  std::signal(number, SIG_DFL);
  std::raise(number);
}

// A copy of its own size, so that AddressSanitizer sees a read beyond the end.
void run(const std::string& input) {
  running = &input;
  std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  running = nullptr;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> read_corpus(const std::vector<std::string>& paths) {
  std::vector<std::string> corpus;
  for (const std::string& path : paths) {
    if (!fs::is_directory(path)) {
      corpus.push_back(read_file(path));
      continue;
    }
    std::vector<fs::path> files(fs::directory_iterator(path), fs::directory_iterator{});
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) corpus.push_back(read_file(file));
  }
  return corpus;
}

int usage() {
  fmt::print(
      stderr,
      "usage: FUZZER [--runs N] [--seconds S] [--seed N] [--write-seeds DIR] [FILE|DIR]...\n");
  return 64;
}

bool parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (!argument.starts_with("--")) {
      arguments->paths.push_back(argument);
      continue;
    }
    if (++i == argc) return false;
    if (argument == "--runs")
      arguments->runs = std::strtoull(argv[i], nullptr, 10);
    else if (argument == "--seconds")
      arguments->seconds = std::strtoull(argv[i], nullptr, 10);
    else if (argument == "--seed")
      arguments->seed = std::strtoull(argv[i], nullptr, 10);
    else if (argument == "--write-seeds")
      arguments->write_to = argv[i];
    else
      return false;
  }
  return true;
}

int write_seeds(const std::string& directory) {
  size_t number = 0;
  for (const std::string& seed : millrace::fuzz::seeds())
    std::ofstream(fmt::format("{}/seed-{:02}", directory, ++number), std::ios::binary) << seed;
  fmt::print("{} seeds\n", number);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!parse(argc, argv, &arguments)) return usage();
  if (!arguments.write_to.empty()) return write_seeds(arguments.write_to);
  std::snprintf(crash_name, sizeof crash_name, "fuzz-crash-%d", int(::getpid()));
  for (int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(number, keep_input);

  std::vector<std::string> corpus = read_corpus(arguments.paths);
  const size_t files = corpus.size();
  for (std::string& seed : millrace::fuzz::seeds()) corpus.push_back(std::move(seed));
  for (const std::string& input : corpus) run(input);

  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::seconds(arguments.seconds);
  Mutator mutator(corpus, arguments.seed);
  uint64_t runs = 0;
  for (; runs < arguments.runs && Clock::now() < end; ++runs) run(mutator.next());
  fmt::print("{} files, {} seeds, {} mutations with seed {}\n", files, corpus.size() - files, runs,
             arguments.seed);
  return 0;
}
