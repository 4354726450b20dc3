// A plugin for Millrace workers: compresses each job's payload into a gzip file, with zlib.
//
//   cmake -S examples/cpp-handler -B build/cpp-handler && cmake --build build/cpp-handler
//   millrace-worker run --queue gzip=so:build/cpp-handler/gzip-handler.so
//   millrace-producer submit --queue gzip --wait --results out.ndjson 'to be or not to be'
//
// It produces the same bytes for the same payload each time, so it needs no idempotency key.
#define ZLIB_CONST  // zlib's input is const
#include <millrace/millrace_handler.h>
#include <zlib.h>

#include <climits>
#include <vector>

namespace {

constexpr int kBestCompression = 9;
constexpr int kGzip = 15 + 16;  // the largest window, and gzip's header and trailer
constexpr int kMemory = 8;      // zlib's default

// Owns a zlib stream.
class Deflate {
 public:
  Deflate() {
    good_ = deflateInit2(&stream_, kBestCompression, Z_DEFLATED, kGzip, kMemory,
                         Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~Deflate() {
    if (good_) deflateEnd(&stream_);
  }
  Deflate(const Deflate&) = delete;
  Deflate& operator=(const Deflate&) = delete;

  bool good() const { return good_; }
  // All of the input at once; false if zlib says no.
  bool compress(const void* bytes, size_t size, std::vector<unsigned char>* out) {
    out->resize(deflateBound(&stream_, uLong(size)));
    stream_.next_in = static_cast<const Bytef*>(bytes);
    stream_.avail_in = uInt(size);
    stream_.next_out = out->data();
    stream_.avail_out = uInt(out->size());
    if (deflate(&stream_, Z_FINISH) != Z_STREAM_END) return false;
    out->resize(stream_.total_out);
    return true;
  }

 private:
  z_stream stream_{};
  bool good_ = false;
};

int run(void*, millrace_job* job) {
  if (job->payload_size > UINT_MAX / 2)
    return millrace_fail(job, MILLRACE_PERMANENT, "the payload is too large for zlib");
  Deflate deflate;
  std::vector<unsigned char> file;
  if (!deflate.good()) return millrace_fail(job, MILLRACE_RETRYABLE, "zlib has no memory");
  if (!deflate.compress(job->payload, job->payload_size, &file))
    return millrace_fail(job, MILLRACE_RETRYABLE, "zlib can't compress this");
  return millrace_done(job, file.data(), file.size());
}

constexpr millrace_handler kHandler{MILLRACE_HANDLER_ABI, nullptr, run, nullptr};

}  // namespace

const millrace_handler* millrace_handler_get() { return &kHandler; }
