#include "producer/submit/files.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace millrace::producer {
namespace {

struct File {
  std::string flag;
  std::string path;  // "-": stdin
};

std::vector<File> files_of(const SubmitFlags& flags) {
  std::vector<File> files;
  auto add = [&files](std::string flag, const std::string& path) {
    if (!path.empty()) files.push_back({std::move(flag), path});
  };
  add("--lines", flags.lines);
  add("--ndjson", flags.ndjson);
  if (flags.results != "-") add("--results", flags.results);
  add("--joblog", flags.joblog);
  add(flags.ledger.empty() ? "the ledger of --joblog" : "--ledger", flags.ledger_path());
  return files;
}

std::optional<struct stat> status_of(const File& file) {
  struct stat status {};
  const bool is_stdin = file.path == "-";
  const int failed = is_stdin ? fstat(STDIN_FILENO, &status) : stat(file.path.c_str(), &status);
  return failed ? std::nullopt : std::optional(status);
}

std::filesystem::path place_of(const File& file) {
  std::error_code failed;
  auto place = std::filesystem::weakly_canonical(std::filesystem::absolute(file.path), failed);
  return failed ? std::filesystem::path(file.path) : place;
}

// Not so of /dev/null, a terminal or a pipe: nothing lies there that could be lost.
bool is_one_file(const File& one, const File& other) {
  const auto here = status_of(one), there = status_of(other);
  if (here && there)
    return S_ISREG(here->st_mode) && here->st_dev == there->st_dev && here->st_ino == there->st_ino;
  return !here && !there && place_of(one) == place_of(other);
}

}  // namespace

Result<void> check_files(const SubmitFlags& flags) {
  const std::vector<File> files = files_of(flags);
  for (size_t i = 0; i < files.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (is_one_file(files[j], files[i]))
        return Error{ExitCode::usage,
                     fmt::format("{} and {} are one file, {}: give each a file of its own",
                                 files[j].flag, files[i].flag, files[i].path)};
  return {};
}

}  // namespace millrace::producer
