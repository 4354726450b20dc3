// Any bytes as what a server answers: a reply or an error, the same however the bytes are cut.
#include <optional>

#include "common/base/check.h"
#include "common/http/reply_parser.h"
#include "tests/fuzz/target.h"

using namespace millrace;
using namespace millrace::http;

namespace {

std::optional<Reply> reply_of(std::string_view bytes, size_t piece) {
  ReplyParser parser;
  for (; !bytes.empty() && !parser.is_done(); bytes.remove_prefix(std::min(piece, bytes.size())))
    if (parser.put(bytes.substr(0, piece))) return std::nullopt;
  if (!parser.is_done() && parser.end()) return std::nullopt;
  return parser.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = fuzz::view_of(data, size);
  const auto whole = reply_of(bytes, std::max<size_t>(size, 1));
  const auto pieces = reply_of(bytes, 7);
  MILLRACE_CHECK(whole.has_value() == pieces.has_value());
  if (!whole) return 0;
  MILLRACE_CHECK(whole->status == pieces->status && whole->body == pieces->body);
  MILLRACE_CHECK(whole->body.size() <= size && whole->content_type.size() <= size);
  return 0;
}

std::vector<std::string> fuzz::seeds() {
  return {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
          "HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n\r\nuntil the end",
          "HTTP/1.1 204 No Content\r\n\r\n",
          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
          "SSH-2.0-OpenSSH_9.2\r\n",
          "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"};
}
