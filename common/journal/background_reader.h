// Reads places of a journal back in a thread of its own, so that whoever asks never waits for the
// disk.
// Shape:   request() → the thread reads, in the order of the requests → `answered` is called, and
//          take() has the answers. A batch that the caller still holds is not read again.
// Limits:  none of its own: who asks bounds what is under way
// Errors:  an answer carries what PlaceReader says; that of a shortage comes after kRetry, so that who
//          asks again at once does not ask without end
// Owns:    the thread, which the first request starts; the reader must outlive it. Destroying it waits
//          for the read that is under way, and drops the others
// Threads: request() and take() any; `answered` is called while they are locked out
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "common/journal/journal.h"
#include "common/journal/place_reader.h"

namespace millrace::journal {

class BackgroundReader {
 public:
  BackgroundReader(PlaceReader& reader, std::function<void()> answered)
      : reader_(reader), answered_(std::move(answered)) {}
  ~BackgroundReader();

  void request(const ReadRequest& request);
  std::vector<ReadAnswer> take();

 private:
  static constexpr size_t kRemembered = 8;
  static constexpr Millis kRetry{100};
  struct Remembered {
    Body body;  // without its owner
    std::weak_ptr<const void> owner;
  };

  bool has_thread();
  void run();
  void answer(ReadAnswer answer);
  Result<Body> read(const ReadRequest& request);
  void remember(const Body& body);

  PlaceReader& reader_;
  const std::function<void()> answered_;
  std::deque<Remembered> remembered_;  // the thread's own: what it read last

  std::mutex mutex_;  // for what follows; never held while the disk is at work
  std::condition_variable work_;
  std::deque<ReadRequest> requests_;
  std::vector<ReadAnswer> answers_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace millrace::journal
