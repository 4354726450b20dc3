#include "producer/spool/identity.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <charconv>
#include <sstream>
#include <vector>

#include "producer/spool/records.h"

namespace millrace::producer {
namespace {

constexpr const char* kName = "producer";
constexpr std::string_view kMagic = "millrace-spool";
constexpr size_t kMaxText = 4096;

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

Error broken(std::string what) { return {ExitCode::bad_data, std::move(what)}; }

}  // namespace

std::string identity_text(const SpoolIdentity& identity) {
  std::string line = fmt::format("{} {} producer {} run {}", kMagic, kSpoolVersion,
                                 identity.producer.hex(), identity.run);
  return fmt::format("{} check {:016x}\n", line, XXH3_64bits(line.data(), line.size()));
}

Result<SpoolIdentity> parse_identity(std::string_view text) {
  const auto words = words_of(text);
  if (words.size() < 2 || words[0] != kMagic) return broken("is not a spool's");
  if (words[1] != std::to_string(kSpoolVersion))
    return broken(fmt::format("has spool format version {}, and this producer reads version {}",
                              words[1], kSpoolVersion));
  SpoolIdentity identity;
  if (words.size() < 6 || !Uuid::from_hex(words[3], &identity.producer))
    return broken("is damaged");
  std::from_chars(words[5].data(), words[5].data() + words[5].size(), identity.run);
  const bool is_right = identity.run > 0 && identity.run <= SpoolIdentity::kMaxRun;
  if (!is_right || identity_text(identity) != text) return broken("is damaged");
  return identity;
}

Result<std::optional<SpoolIdentity>> read_identity(journal::Directory& root) {
  auto opened = root.open(kName);
  if (opened.error == std::errc::no_such_file_or_directory) return std::optional<SpoolIdentity>();
  if (opened.error) return journal::file_error(root, kName, "opened", opened.error);
  std::string text(kMaxText, '\0');
  size_t got = 0;
  if (auto error = opened.file->read(0, text.size(), text.data(), &got))
    return journal::file_error(root, kName, "read", error);
  text.resize(got);
  auto identity = parse_identity(text);
  if (identity) return std::optional(*identity);
  return broken(
      fmt::format("{}/{} {}: restore the whole spool from one copy, start the release that "
                  "wrote it, or choose another --spool directory",
                  root.path(), kName, identity.error().message));
}

Result<void> write_identity(journal::Directory& root, const SpoolIdentity& identity) {
  const std::string temporary = std::string(kName) + ".tmp", text = identity_text(identity);
  const std::string_view parts[] = {text};
  auto created = root.create(temporary);
  if (created.error) return journal::file_error(root, temporary, "created", created.error);
  if (auto error = created.file->write(parts, 0))
    return journal::file_error(root, temporary, "written", error);
  if (auto error = created.file->sync())
    return journal::file_error(root, temporary, "synced", error);
  if (auto error = root.rename(temporary, kName))
    return journal::file_error(root, temporary, "renamed", error);
  if (auto error = root.sync()) return journal::file_error(root, "", "synced", error);
  return {};
}

}  // namespace millrace::producer
