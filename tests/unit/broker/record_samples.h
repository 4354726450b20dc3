// One record of each type, with every field in use.
#pragma once

#include "broker/records/record_codec.h"

namespace millrace::test {

using namespace records;

inline const Uuid kSomeone = Uuid::from_bytes("0123456789abcdef");

inline Accepted an_accepted() {
  Accepted accepted;
  accepted.first_job = {1000};
  accepted.producer = kSomeone;
  accepted.first_seq = {70};
  accepted.floor = {69};
  accepted.time = wall_from_int(1700000000000);
  accepted.queue = "images";
  accepted.report = Report::result;
  accepted.max_attempts = 255;
  accepted.priority = 9;
  accepted.due = wall_from_int(1700000000500);
  accepted.expires = wall_from_int(1700000009000);
  accepted.keys = {"k1", "k2", "k3"};
  accepted.payloads = {"one", std::string_view("t\0o", 3), ""};
  return accepted;
}

inline std::vector<Record> one_of_each() {
  Done done{wall_from_int(5),
            {{{1}, Epoch{3}, 2}, {{9}, {77}, 1}},
            {{{9}, "result"}, {{10}, ""}},
            {{"images", 2}, {"mail", 1}}};
  Returned returned{wall_from_int(6),
                    ReturnReason::never_arrived,
                    "host:1",
                    {{{{4}, {5}}, true}, {{{6}, {7}}, false}}};
  Checkpoint checkpoint{{0xdeadbeef},         3, {100}, Epoch{3}, {1, 2, 3, 4, 5, 6, 7, 8, 9},
                        {{{1}, 9}, {{20}, 1}}};
  checkpoint.cancelled = {{{30}, 2}};
  checkpoint.expired = {{{40}, 3}};
  checkpoint.producers = {{kSomeone, {5}, wall_from_int(8), {{{5}, 3, {12}}, {{9}, 1, {40}}}},
                          {Uuid(), {1}, WallMs(), {}}};
  Relocated relocated;
  relocated.job = {8};
  relocated.producer = relocated.worker = kSomeone;
  relocated.queue = "images";
  relocated.state = protocol::JobState::leased;
  relocated.attempts = 300;
  relocated.expires = wall_from_int(77);
  relocated.epoch = {12};
  relocated.history = {{1, "w1", "no luck", wall_from_int(5)}, {2, "w2", "", wall_from_int(6)}};
  relocated.payload = "payload";
  QueueSettings settings{3, Order::fair, true,       5,          100,       1000,
                         7, Millis(10),  Millis(20), Millis(30), Millis(40)};
  checkpoint.queues = {{"images", settings}};
  checkpoint.totals = {{"images", 1 << 20}};
  checkpoint.history_start = {3};
  checkpoint.absent = {{kSomeone, 3}, {Uuid(), kGracePeriods}};
  checkpoint.keys = {{std::string("q\0key", 5), {9}, wall_from_int(77)}};
  return {
      Started{7, wall_from_int(1700000000000), {4711}},
      an_accepted(),
      Leased{kSomeone, Epoch{2}, {{{1}, 5}, {{UINT64_MAX}, 0}}},
      done,
      Failed{
          {{3}, {4}}, wall_from_int(9), FailKind::crash, wall_from_int(0), "host:2", "signal 11"},
      returned,
      Due{{{{8}, 2}}},
      Collected{{{{8}, 2}, {{11}, 1}}},
      ProducerGone{kSomeone},
      checkpoint,
      Matched{kSomeone, {4}, {3}, wall_from_int(9), {17}},
      Cancelled{wall_from_int(9), CancelReason::dropped, {{{8}, 2}}},
      Expired{{{{8}, 2}}},
      Requeued{wall_from_int(9), {{{8}, 2}}},
      QueueSet{"images", settings},
      relocated,
      ResultRetained{{8}, 300, wall_from_int(77), "result"},
      HistoryTrimmed{{4711}},
      Absent{{{kSomeone, 2}, {Uuid(), 0}}}};
}

}  // namespace millrace::test
