// The one door to the operating system: a directory, its files, its lock. Tests put a directory
// behind it that forgets what was not synced.
// Shape:   names are relative to the directory; what is written or renamed is durable only after
//          File::sync() or Directory::sync()
// Errors:  std::error_code with the errno, so that the caller can tell a full disk from a broken one;
//          Result where only a sentence for people matters
// Owns:    a Directory holds its lock: alone, or with other readers if it was opened to be read
// Threads: a Directory may be used by any; a File's write and sync by one at a time, read by any
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "common/base/result.h"
#include "common/journal/terms.h"

namespace millrace::journal {

class File {
 public:
  virtual ~File() = default;
  // Writes all the parts, one behind the other; after an error some of it may be written.
  virtual std::error_code write(std::span<const std::string_view> parts, uint64_t offset) = 0;
  // Makes data and size durable. no_such_file_or_directory: the file has no name any more, so what
  // is written to it is lost.
  virtual std::error_code sync() = 0;
  // Reads up to `size` bytes; `got` is less only at the end of the file.
  virtual std::error_code read(uint64_t offset, size_t size, char* out, size_t* got) = 0;
  // Reserves space up to `size`, which becomes the file's size; a file that can't stays as it is.
  virtual std::error_code allocate(uint64_t size) = 0;
  virtual std::error_code truncate(uint64_t size) = 0;
  virtual std::error_code size(uint64_t* bytes) = 0;
};

class Directory {
 public:
  struct Opened {
    std::error_code error;
    std::unique_ptr<File> file;  // set if there is no error
  };

  virtual ~Directory() = default;
  virtual const std::string& path() const = 0;
  virtual const Terms& terms() const { return kBrokerTerms; }
  virtual std::error_code list(std::vector<std::string>* names) = 0;
  virtual Opened open(const std::string& name) = 0;    // for reading and writing
  virtual Opened create(const std::string& name) = 0;  // empty, in place of any older one
  virtual std::error_code rename(const std::string& from, const std::string& to) = 0;
  virtual std::error_code remove(const std::string& name) = 0;
  virtual std::error_code sync() = 0;  // creations, renames and removals so far are durable
  virtual uint64_t free_bytes() = 0;   // of the file system, for us; 0 if it can't be told
};

// Creates the directory (0700) if it is not there and takes its lock. 73: it can't be created, is
// no directory, is not writable, or is locked (by the process that the sentence names).
Result<std::unique_ptr<Directory>> open_directory(const std::string& path,
                                                  const Terms& terms = kBrokerTerms);

// For tools: the directory as it is. Nothing is made or changed, its files are opened for reading
// only, and while this is held no broker starts there (nor could one see what is written
// meanwhile). 65: it is not there, or no directory; 73: a broker runs on it (the sentence names
// it); 74 I/O.
Result<std::unique_ptr<Directory>> open_directory_to_read(const std::string& path,
                                                          const Terms& terms = kBrokerTerms);

// The salvage of the directory's terms, for that directory.
std::string how_to_salvage(const Directory& directory);

// The entry of a directory that was made or renamed is durable.
std::error_code sync_directory_above(const std::string& path);

// 74, with the sentence "PATH/NAME can't be WHAT: why".
Error file_error(const Directory& directory, std::string_view name, std::string_view what,
                 std::error_code error);

// The disk, the quota, or the process's limit of a file's size: room may come back.
inline bool is_no_space(std::error_code error) {
  return error == std::errc::no_space_on_device || error == std::errc::file_too_large ||
         error.value() == 122;  // EDQUOT
}

// No space, or no descriptor or memory for the moment: the disk is not at fault, and the same
// operation may succeed later. Never of a sync: after one that failed, what is on disk is unknown.
inline bool is_shortage(std::error_code error) {
  return is_no_space(error) || error == std::errc::too_many_files_open ||
         error == std::errc::too_many_files_open_in_system ||
         error == std::errc::not_enough_memory || error == std::errc::no_buffer_space ||
         error == std::errc::resource_unavailable_try_again || error == std::errc::interrupted;
}

}  // namespace millrace::journal
