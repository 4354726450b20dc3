#include "broker/server/doorkeeper.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "broker/keys/allow_list.h"
#include "common/check.h"
#include "common/curve.h"
#include "common/log.h"

namespace millrace::server {
namespace {

constexpr const char* kZapAddress = "inproc://zeromq.zap.01";
constexpr size_t kZapFrames = 7;  // version, id, domain, address, identity, mechanism, key
constexpr size_t kMostPeers = 16384;

std::string peer_of(uint32_t fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getpeername(int(fd), reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
    inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(v4->sin_port));
  }
  if (address.ss_family != AF_INET6) return "";
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
  inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
  return fmt::format("[{}]:{}", text.data(), ntohs(v6->sin6_port));
}

std::string why_failed(uint16_t event, uint32_t value) {
  if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) return "closed within the handshake";
  if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) return "without keys";
  if (value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC) return "a wrong --curve-broker";
  return "no ZeroMQ handshake";
}

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

std::string Doorkeeper::monitor_of(std::string_view port) {
  return fmt::format("inproc://millrace.handshakes.{}", port);
}

Doorkeeper::Doorkeeper(zmq::context_t& context, std::string allow_file, Wakeup& changed)
    : allow_file_(std::move(allow_file)), changed_(changed), zap_(context, zmq::socket_type::rep) {
  zap_.set(zmq::sockopt::linger, 0);
  zap_.bind(kZapAddress);
  for (const char* port : {"frontend", "backend"}) {
    zmq::socket_t events(context, zmq::socket_type::pair);
    events.set(zmq::sockopt::linger, 0);
    events.connect(monitor_of(port));  // before the router's monitor, which waits for a reader
    watched_.push_back({port, std::move(events), {}, {}});
  }
}

Result<std::unique_ptr<Doorkeeper>> Doorkeeper::start(zmq::context_t& context,
                                                      std::string allow_file, Wakeup& changed) {
  std::unique_ptr<Doorkeeper> door(new Doorkeeper(context, std::move(allow_file), changed));
  door->version_ = door->seen_ = version_of(door->allow_file_);
  if (auto read = door->read_list(); !read) return read.error();
  if (door->allowed_->empty())
    log_warning("the allow-list is empty: nobody can connect yet", {{"list", door->allow_file_}});
  door->thread_ = std::thread([keeper = door.get()] { keeper->run(); });
  return door;
}

Doorkeeper::~Doorkeeper() {
  ending_.store(true);
  end_.signal();
  if (thread_.joinable()) thread_.join();
}

KeySetPtr Doorkeeper::allowed() const {
  std::lock_guard lock(lock_);
  return allowed_;
}

Doorkeeper::Version Doorkeeper::version_of(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return {errno};
  return {int64_t(info.st_dev),         int64_t(info.st_ino),         int64_t(info.st_size),
          int64_t(info.st_mode),        info.st_mtim.tv_sec,          info.st_mtim.tv_nsec,
          int64_t(info.st_ctim.tv_sec), int64_t(info.st_ctim.tv_nsec)};
}

Result<void> Doorkeeper::read_list() {
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

void Doorkeeper::look_at_file(Mono now) {
  Version found = version_of(allow_file_);
  if (found != seen_) {
    seen_ = std::move(found);
    seen_since_ = now;
  }
  if (seen_ == version_ || now - seen_since_ < kLook) return;
  version_ = seen_;
  if (auto read = read_list(); !read) {
    log_error("the allow-list was not taken; the one before it stays in force",
              {{"why", read.error().message}});
    return;
  }
  changed_.signal();
}

void Doorkeeper::run() {
  while (!ending_.load()) {
    std::vector<zmq::pollitem_t> items{{nullptr, end_.fd(), ZMQ_POLLIN, 0},
                                       {zap_.handle(), 0, ZMQ_POLLIN, 0}};
    for (Watched& port : watched_) items.push_back({port.events.handle(), 0, ZMQ_POLLIN, 0});
    try {
      zmq::poll(items, kLook);
    } catch (const zmq::error_t& error) {
      MILLRACE_CHECK(error.num() == EINTR);
    }
    look_at_file(Mono::clock::now());
    answer_all();
    for (Watched& port : watched_) watch(port);
  }
}

// In the order of ZAP: what libzmq itself asks is well-formed, and nobody else can ask here.
void Doorkeeper::answer_all() {
  for (auto frames = receive_all(zap_); !frames.empty(); frames = receive_all(zap_)) {
    std::string key(kCurveKeyText + 1, '\0');
    const bool has_key = frames.size() == kZapFrames && frames[5].to_string_view() == "CURVE" &&
                         frames[6].size() == 32;
    if (has_key) zmq_z85_encode(key.data(), frames[6].data<uint8_t>(), frames[6].size());
    key.resize(kCurveKeyText);
    const bool is_in = has_key && allowed()->contains(key);
    if (!is_in)
      count_refusal("", frames.size() > 3 ? frames[3].to_string() : "",
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

void Doorkeeper::watch(Watched& port) {
  for (auto frames = receive_all(port.events); !frames.empty(); frames = receive_all(port.events)) {
    uint16_t event;
    uint32_t value;
    MILLRACE_CHECK(frames[0].size() == sizeof event + sizeof value);
    std::memcpy(&event, frames[0].data(), sizeof event);
    std::memcpy(&value, frames[0].data<char>() + sizeof event, sizeof value);
    note(port, event, value);
  }
}

// The events of a failed handshake name no peer: the descriptor of the close behind them does.
void Doorkeeper::note(Watched& port, uint16_t event, uint32_t value) {
  if (event == ZMQ_EVENT_ACCEPTED) {
    if (port.peers.size() >= kMostPeers) port.peers.clear();
    port.peers[value] = peer_of(value);
    return;
  }
  if (event != ZMQ_EVENT_DISCONNECTED) {
    port.failure = why_failed(event, value);
    return;
  }
  if (!port.failure.empty()) count_refusal(port.port, port.peers[value], port.failure);
  port.failure.clear();
  port.peers.erase(value);
}

void Doorkeeper::count_refusal(std::string_view port, std::string_view peer, std::string_view why) {
  ++refused_;
  auto held_back = refusal_lines_.admit(Mono::clock::now());
  if (!held_back) return;
  log_warning("handshake refused", {{"peer", peer.empty() ? "unknown" : peer},
                                    {"port", port.empty() ? "either" : port},
                                    {"why", why},
                                    {"not_logged", *held_back}});
}

}  // namespace millrace::server
