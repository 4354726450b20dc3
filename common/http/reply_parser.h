// The bytes of one HTTP response, in whatever pieces they come. Included by client.cpp and its fuzz
// target alone, for Beast is slow to compile.
// Limits:  kMaxBody of body, Beast's 8 KiB of header
// Errors:  an error of Beast's or of the stream; end(): partial_message when the body is not whole
// Threads: one
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <string_view>

#include "common/http/client.h"

namespace millrace::http {

class ReplyParser {
 public:
  using error_code = boost::system::error_code;
  static constexpr uint64_t kMaxBody = 64 << 20;

  ReplyParser() {
    parser_.body_limit(kMaxBody);
    parser_.eager(false);
  }

  // The next bytes; they may be followed by more until is_done().
  error_code put(std::string_view bytes) {
    auto space = unread_.prepare(bytes.size());
    unread_.commit(boost::asio::buffer_copy(space, boost::asio::buffer(bytes)));
    error_code error;
    while (unread_.size() > 0 && !parser_.is_done()) {
      const size_t taken = parser_.put(unread_.data(), error);
      unread_.consume(taken);
      if (error == boost::beast::http::error::need_more) return {};
      if (!error && parser_.is_header_done()) error = begin_body();
      if (error || taken == 0) return error;
    }
    return error;
  }
  // The stream has ended, which may be how the body's end is told.
  error_code end() {
    error_code error;
    if (!parser_.got_some()) return boost::beast::http::error::end_of_stream;
    if (!parser_.is_done()) parser_.put_eof(error);
    return error;
  }
  bool is_done() const { return parser_.is_done(); }

  Reply take() {
    auto& message = parser_.get();
    const auto type = message[boost::beast::http::field::content_type];
    return {int(message.result_int()), {type.data(), type.size()}, std::move(message.body())};
  }

 private:
  // Beast compares a Content-Length with the limit, and then reserves the memory all the same if
  // more bytes are there: it must not see them before.
  error_code begin_body() {
    parser_.eager(true);
    if (parser_.content_length().value_or(0) <= kMaxBody) return {};
    return boost::beast::http::error::body_limit;
  }

  boost::beast::flat_buffer unread_;
  boost::beast::http::response_parser<boost::beast::http::string_body> parser_;
};

}  // namespace millrace::http
