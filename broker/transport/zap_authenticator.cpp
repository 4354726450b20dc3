#include "broker/transport/zap_authenticator.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include <cerrno>

#include "broker/keys/allow_list.h"
#include "common/base/check.h"
#include "common/net/curve.h"
#include "common/os/log.h"

namespace millrace::server {
namespace {

constexpr const char* kZapAddress = "inproc://zeromq.zap.01";
constexpr size_t kZapFrames = 7;  // version, id, domain, address, identity, mechanism, key

std::vector<zmq::message_t> receive_all(zmq::socket_t& socket) {
  std::vector<zmq::message_t> frames;
  zmq::message_t frame;
  while (socket.recv(frame, zmq::recv_flags::dontwait)) {
    const bool more = frame.more();
    frames.push_back(std::move(frame));
    if (!more) break;
  }
  return frames;
}

KeySetPtr set_of(const keys::AllowList& list) {
  auto set = std::make_shared<KeySet>();
  for (const keys::AllowedKey& allowed : list.keys) set->insert(allowed.key);
  return set;
}

}  // namespace

ZapAuthenticator::ZapAuthenticator(zmq::context_t& context, std::string allow_file, Wakeup& changed)
    : allow_file_(std::move(allow_file)), changed_(changed), zap_(context, zmq::socket_type::rep) {
  zap_.set(zmq::sockopt::linger, 0);
  zap_.bind(kZapAddress);
}

Result<std::unique_ptr<ZapAuthenticator>> ZapAuthenticator::start(zmq::context_t& context,
                                                                  std::string allow_file,
                                                                  Wakeup& changed) {
  std::unique_ptr<ZapAuthenticator> door(
      new ZapAuthenticator(context, std::move(allow_file), changed));
  door->version_ = door->seen_ = version_of(door->allow_file_);
  if (auto read = door->read_list(); !read) return read.error();
  if (door->allowed_->empty())
    log_warning("the allow-list is empty: nobody can connect yet", {{"list", door->allow_file_}});
  door->thread_ = std::thread([keeper = door.get()] { keeper->run(); });
  return door;
}

ZapAuthenticator::~ZapAuthenticator() {
  ending_.store(true);
  end_.signal();
  if (thread_.joinable()) thread_.join();
}

KeySetPtr ZapAuthenticator::allowed() const {
  std::lock_guard lock(lock_);
  return allowed_;
}

ZapAuthenticator::Version ZapAuthenticator::version_of(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return {errno};
  return {int64_t(info.st_dev),         int64_t(info.st_ino),         int64_t(info.st_size),
          int64_t(info.st_mode),        info.st_mtim.tv_sec,          info.st_mtim.tv_nsec,
          int64_t(info.st_ctim.tv_sec), int64_t(info.st_ctim.tv_nsec)};
}

Result<void> ZapAuthenticator::read_list() {
  auto list = keys::read_allow_list(allow_file_);
  if (!list) return list.error();
  {
    std::lock_guard lock(lock_);
    allowed_ = set_of(*list);
  }
  ++generation_;
  log_info("allow-list in force", {{"list", allow_file_}, {"keys", list->keys.size()}});
  return {};
}

void ZapAuthenticator::look_at_file(Mono now) {
  Version found = version_of(allow_file_);
  if (found != seen_) {
    seen_ = std::move(found);
    seen_since_ = now;
  }
  const bool is_changed = seen_ != version_ && now - seen_since_ >= kLook;
  if (!is_read_wanted_.exchange(false) && !is_changed) return;
  version_ = seen_;
  if (auto read = read_list(); !read) {
    log_error("the new allow-list is not valid; the previous one stays in force",
              {{"why", read.error().message}});
    return;
  }
  changed_.signal();
}

void ZapAuthenticator::run() {
  while (!ending_.load()) {
    std::vector<zmq::pollitem_t> items{{nullptr, end_.fd(), ZMQ_POLLIN, 0},
                                       {zap_.handle(), 0, ZMQ_POLLIN, 0}};
    try {
      zmq::poll(items, kLook);
    } catch (const zmq::error_t& error) {
      MILLRACE_CHECK(error.num() == EINTR);
    }
    look_at_file(Mono::clock::now());
    answer_all();
  }
}

// In the order of ZAP: what libzmq itself asks is well-formed, and nobody else can ask here.
void ZapAuthenticator::answer_all() {
  for (auto frames = receive_all(zap_); !frames.empty(); frames = receive_all(zap_)) {
    std::string key(kCurveKeyText + 1, '\0');
    const bool has_key = frames.size() == kZapFrames && frames[5].to_string_view() == "CURVE" &&
                         frames[6].size() == 32;
    if (has_key) zmq_z85_encode(key.data(), frames[6].data<uint8_t>(), frames[6].size());
    key.resize(kCurveKeyText);
    const bool is_in = has_key && allowed()->contains(key);
    if (!is_in)
      count_refusal(frames.size() > 3 ? frames[3].to_string() : "",
                    "a key that is not on the list: " + (has_key ? key : "none"));
    const std::string id = frames.size() > 1 ? frames[1].to_string() : "";
    const std::string_view user = is_in ? std::string_view(key) : "";
    const std::string_view parts[] = {
        "1.0", id, is_in ? "200" : "400", is_in ? "" : "not on the allow-list", user, ""};
    for (size_t i = 0; i < std::size(parts); ++i)
      zap_.send(zmq::buffer(parts[i]),
                i + 1 < std::size(parts) ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

void ZapAuthenticator::count_refusal(std::string_view peer, std::string_view why) {
  ++refused_;
  auto held_back = refusal_lines_.admit(Mono::clock::now());
  if (!held_back) return;
  log_warning("handshake refused", {{"peer", peer.empty() ? "unknown" : peer},
                                    {"port", "either"},
                                    {"why", why},
                                    {"not_logged", *held_back}});
}

}  // namespace millrace::server
