#include "broker/server/loop_log.h"

#include "common/os/log.h"

namespace millrace::server {

const char* name_of(core::Port port) {
  return port == core::Port::frontend ? "frontend" : "backend";
}

void LoopLog::frame_refused(core::Route route, const protocol::Fault& fault) {
  if (auto held_back = refused_.admit(Mono::clock::now()))
    log_warning("frame refused", {{"port", name_of(route.port)},
                                  {"code", fault.code},
                                  {"why", fault.message},
                                  {"not_logged", *held_back}});
}

void LoopLog::peer_overran(core::Route route, const std::string& peer) {
  if (auto held_back = overruns_.admit(Mono::clock::now()))
    log_warning("a peer that sends more than its window is disconnected: have it wait for answers",
                {{"port", name_of(route.port)}, {"peer", peer}, {"not_logged", *held_back}});
}

void LoopLog::payload_unreadable(const std::string& cause) {
  if (auto held_back = shortages_.admit(Mono::clock::now()))
    log_warning("a payload can't be read back: its job waits, and the read is retried",
                {{"cause", cause}, {"not_logged", *held_back}});
}

void LoopLog::message_not_encoded() {
  if (auto held_back = shortages_.admit(Mono::clock::now()))
    log_warning("no memory to encode a message: its session must register again",
                {{"not_logged", *held_back}});
}

void LoopLog::disk_full_changed(bool full, const std::string& shortage, uint64_t free) {
  if (full && !shortage.empty()) {
    log_warning("the journal can't be written to: new jobs are rejected, and the write is retried",
                {{"cause", shortage}, {"free", free}});
  } else if (full) {
    log_warning("the journal's disk is full: new jobs are rejected, completions are accepted",
                {{"free", free}, {"reserve", disk_reserve_}});
  } else {
    log_info("the journal can be written to again: new jobs are accepted", {{"free", free}});
  }
}

}  // namespace millrace::server
