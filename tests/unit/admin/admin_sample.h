// A Status with a different value in every field, for tests of what is made of it.
#pragma once

#include "broker/admin/status.h"

namespace millrace::admin {

inline Status sample_status() {
  Status status;
  status.state = "serving";
  status.fsync = "interval:100ms";
  status.durability = "buffered";
  status.version = "1.2.3";
  status.broker = "3f9a1c07";
  status.incarnation = 3;
  status.uptime_ms = 3'723'500;
  status.pid = 4242;
  status.jobs = {11, 1212, 13, 14, 1'515'000, 16, 17, 18};
  status.totals = {21, 22, 23, 24, 25, 26, 27, 28, 29, 30};
  status.queues = {{"mail", 31, 32, 33, 34, 35, 36, 37}, {"q2", 0, 0, 0, 0, 0, 0}};
  status.other_queues = {81, 82, 83, 84, 85, 86, 87};
  status.queues[0].settings.weight = 38;
  status.queues[0].settings.order = records::Order::fair;
  status.queues[0].settings.paused = true;
  status.queues[0].settings.lease = Millis(39);
  status.workers = {{"host:1", "00ff", {"mail", "q2"}, {"gpu"}, 41, 42, 43, 44, 45, 0.25, true, 46},
                    {"host:2", "01ff", {}, {}, 4, 0, 1, 0, 0, 9.5, false}};
  status.producers = 2;
  status.journal = {51, 52 << 20, 53, 54, 55, 3'221'225'472, true};
  status.journal.loss_window_ms = 56;
  status.journal.loss_window_max_ms = 100;
  status.memory = {61 << 10, 62, 65, 66, 67, 68, 69};
  status.held = {{"jobs", 81, 82}, {"history", 83, 84}};
  status.history_start = "3f9a1c07-85";
  status.largest_producers = {{"0a0b", 71}};
  status.unfinished_of_forgotten = 72;
  status.limits = {73, 74, 75, 76, 77};
  status.security = "curve";
  status.keys = 63;
  status.refused_handshakes = 64;
  status.connections = {66, 67, 68, {{"capacity", 69}, {"silent", 70}}};
  status.slow_readers = 71;
  status.log_lines_dropped = 65;
  return status;
}

}  // namespace millrace::admin
