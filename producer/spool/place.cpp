#include "producer/spool/place.h"

#include <filesystem>

#include "common/journal/recovery.h"
#include "common/os/log.h"

namespace millrace::producer {
namespace {

constexpr journal::Terms kTerms{"producer", "--spool", "stored",
                                "Restore the whole spool from one copy, or move {} away: the jobs "
                                "in it are then not forwarded"};

class RealPlace final : public SpoolPlace {
 public:
  explicit RealPlace(std::unique_ptr<journal::Directory> root) : root_(std::move(root)) {}

  journal::Directory& root() override { return *root_; }

  Result<std::vector<std::string>> folders() override {
    std::vector<std::string> folders;
    std::error_code error;
    for (std::filesystem::directory_iterator it(root_->path(), error), end; !error && it != end;
         it.increment(error)) {
      std::string name = it->path().filename().string();
      if (is_spool_queue_folder(name) && it->is_directory(error))
        folders.push_back(std::move(name));
    }
    if (error) return journal::file_error(*root_, "", "listed", error);
    return folders;
  }

  SpoolQueue open_spool_queue(const std::string& folder, uint64_t segment_bytes,
                              const journal::Journal::Replay& replay) override {
    journal::JournalOptions options;
    options.directory = root_->path() + "/" + folder;
    options.segment_bytes = segment_bytes;
    options.terms = kTerms;
    journal::Recovered recovered;
    auto opened = journal::Journal::open(options, replay, &recovered);
    if (opened && recovered.torn_tail)
      log_warning(
          "dropped an incomplete write at the end of the spool: nothing in it was reported as "
          "stored, unless the file was changed by hand",
          {{"at", *recovered.torn_tail}});
    return opened;
  }

  Result<void> look(const std::string& folder, const journal::Journal::Replay& replay) override {
    auto directory = journal::open_directory_to_read(root_->path() + "/" + folder, kTerms);
    if (!directory) return directory.error();
    auto scanned = journal::scan(**directory, replay);
    return scanned ? Result<void>() : scanned.error();
  }

 private:
  std::unique_ptr<journal::Directory> root_;
};

}  // namespace

Result<std::unique_ptr<SpoolPlace>> open_spool_place(const std::string& path) {
  auto root = journal::open_directory(path, kTerms);
  if (!root) return root.error();
  return std::unique_ptr<SpoolPlace>(std::make_unique<RealPlace>(std::move(*root)));
}

std::string spool_queue_folder(std::string_view authority) {
  constexpr std::string_view kKept =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  std::string folder(authority);
  for (char& c : folder)
    if (kKept.find(c) == kKept.npos) c = '_';
  return folder;
}

bool is_spool_queue_folder(std::string_view name) {
  const size_t last = name.find_last_not_of("0123456789");
  return last != name.npos && name[last] == '_' && last + 1 < name.size();
}

}  // namespace millrace::producer
