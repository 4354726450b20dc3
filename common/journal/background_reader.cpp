#include "common/journal/background_reader.h"

#include <new>
#include <system_error>
#include <utility>

namespace millrace::journal {

BackgroundReader::~BackgroundReader() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void BackgroundReader::request(const ReadRequest& request) {
  {
    std::lock_guard lock(mutex_);
    if (!has_thread()) return answer({request.number, read(request)});
    requests_.push_back(request);
  }
  work_.notify_one();
}

// Where there is no thread to be had for now, the caller reads itself: slower, and nothing ends.
bool BackgroundReader::has_thread() {
  if (thread_.joinable()) return true;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

void BackgroundReader::answer(ReadAnswer answer) {
  answers_.push_back(std::move(answer));
  answered_();
}

std::vector<ReadAnswer> BackgroundReader::take() {
  std::lock_guard lock(mutex_);
  return std::exchange(answers_, {});
}

void BackgroundReader::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return stopping_ || !requests_.empty(); });
    if (stopping_) return;
    const ReadRequest request = requests_.front();
    requests_.pop_front();
    lock.unlock();
    ReadAnswer read_back{request.number, read(request)};
    lock.lock();
    if (!read_back.body && read_back.body.error().code == ExitCode::temporary)
      work_.wait_for(lock, kRetry, [&] { return stopping_; });
    answer(std::move(read_back));
  }
}

// Jobs of several queues often lie in one batch.
Result<Body> BackgroundReader::read(const ReadRequest& request) {
  for (Remembered& known : remembered_) {
    if (!known.body.holds(request.at, request.size)) continue;
    if (auto owner = known.owner.lock())
      return Body{known.body.at, known.body.bytes, std::move(owner)};
  }
  try {
    auto body = reader_.read(request.at, request.size, request.until);
    if (body) remember(*body);
    return body;
  } catch (const std::bad_alloc&) {
    return Error{ExitCode::temporary, "not enough memory to read payloads back from the journal"};
  }
}

void BackgroundReader::remember(const Body& body) {
  if (remembered_.size() == kRemembered) remembered_.pop_front();
  remembered_.push_back({{body.at, body.bytes, nullptr}, body.owner});
}

}  // namespace millrace::journal
