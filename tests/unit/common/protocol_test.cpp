#include "tests/catch.h"

#include <string>

#include "common/protocol/codec.h"
#include "common/protocol/writer.h"

using namespace millrace;
using namespace millrace::protocol;

namespace {

constexpr SessionId kSession{77};

template <typename Message>
Message round_trip(const Message& message, std::string* frame) {
  *frame = encode(kSession, FromClient(message));
  auto decoded = decode_from_client(*frame);
  REQUIRE(std::holds_alternative<Envelope<FromClient>>(decoded));
  CHECK(std::get<0>(decoded).session == kSession);
  return std::get<Message>(std::get<0>(decoded).message);
}

Fault fault_of(std::string_view frame) {
  auto decoded = decode_from_client(frame);
  REQUIRE(std::holds_alternative<Fault>(decoded));
  return std::get<Fault>(decoded);
}

std::string body(std::initializer_list<uint64_t> fields) {
  Writer out;
  out.array(fields.size());
  for (uint64_t field : fields) out.uint(field);
  return out.take();
}

}  // namespace

TEST_CASE("a SUBMIT comes back as it was sent, with the bytes of its payload array", "[protocol]") {
  Submit submit;
  submit.floor = {3};
  submit.first = {5};
  submit.queue = "images";
  submit.options = {Report::result, 7};
  submit.payloads = {"one", std::string_view("t\0o", 3), ""};
  std::string frame;
  Submit back = round_trip(submit, &frame);
  CHECK(back.floor == submit.floor);
  CHECK(back.first == submit.first);
  CHECK(back.queue == submit.queue);
  CHECK(back.options == submit.options);
  CHECK(back.payloads == submit.payloads);
  CHECK(back.payload_array.end() == std::string_view(frame).end());
  CHECK(back.payload_array.size() == 1 + 3 * 2 + 6);
}

TEST_CASE("an option that is not known is named, not dropped", "[protocol]") {
  Writer out;
  out.array(8).uint(1).uint(2).uint(77).uint(1).uint(1).str("q").map(1).str("colour").str("red");
  out.array(1).bin("x");
  auto decoded = decode_from_client(out.take());
  REQUIRE(std::holds_alternative<Envelope<FromClient>>(decoded));
}

TEST_CASE("a REGISTER keeps its claims", "[protocol]") {
  Register message{Uuid::random(), "host:1", {"a", "b"}, 4, {{{1}, {9}}, {{2}, {10}}}, {"gpu"}};
  std::string frame;
  Register back = round_trip(message, &frame);
  CHECK(back.worker == message.worker);
  CHECK(back.queues == message.queues);
  CHECK(back.claims == message.claims);
  CHECK(back.labels == message.labels);
}

TEST_CASE("a REGISTER without labels is one of an older client, with bad ones malformed",
          "[protocol]") {
  auto registered = [](const std::vector<std::string>* labels) {
    Writer out;
    out.array(labels ? 9 : 8).uint(1).uint(10).uint(77).bin(std::string(16, 'w')).str("w");
    out.array(1).str("q").uint(4).array(0);
    if (labels) {
      out.array(labels->size());
      for (const std::string& label : *labels) out.str(label);
    }
    return out.take();
  };
  CHECK(decode_from_client(registered(nullptr)).index() == 0);
  const std::vector<std::string> good{"gpu", "rack-3"}, bad{"two words"}, many(17, "gpu");
  CHECK(decode_from_client(registered(&good)).index() == 0);
  CHECK(std::get<Fault>(decode_from_client(registered(&bad))).code == "malformed");
  CHECK(std::get<Fault>(decode_from_client(registered(&many))).code == "malformed");
}

TEST_CASE("a CREDIT without threads is one of an older client: nothing has changed", "[protocol]") {
  auto credit = [](const std::string& frame) {
    auto decoded = decode_from_client(frame);
    REQUIRE(decoded.index() == 0);
    return std::get<Credit>(std::get<0>(decoded).message);
  };
  CHECK(credit(body({1, 11, 77, 8})).jobs == 8);
  CHECK(credit(body({1, 11, 77, 8})).threads == 0);
  CHECK(credit(encode(kSession, FromClient(Credit{8, 3}))).threads == 3);
}

TEST_CASE("elements that a later version adds at the end are skipped", "[protocol]") {
  auto decoded = decode_from_client(body({1, 20, 77, 5, 6}));
  REQUIRE(std::holds_alternative<Envelope<FromClient>>(decoded));
  CHECK(std::holds_alternative<Heartbeat>(std::get<0>(decoded).message));
}

TEST_CASE("each kind of foreign frame has its code", "[protocol]") {
  CHECK(fault_of("").code == "malformed");
  CHECK(fault_of("GET / HTTP/1.1\r\n\r\n").code == "malformed");
  CHECK(fault_of(body({2, 20, 77})).code == "version");
  CHECK(fault_of(body({2, 20, 77})).session == kSession);
  CHECK(fault_of(body({1, 99, 77})).code == "unknown_type");
  CHECK(fault_of(body({1, 30, 77})).code == "unknown_type");
  CHECK(fault_of(body({1, 20})).code == "malformed");
  CHECK(fault_of(body({1, 20, 77}) + "x").code == "malformed");
}

TEST_CASE("a foreign version is told so whatever follows it", "[protocol]") {
  const std::string map_then_text = {"\x94\x02\x81\xa1t\x01\xa1x\x07", 9};
  for (const std::string& frame :
       {body({2}), body({2, 1}), map_then_text, std::string("\x93\x02\xc1\x07", 4),
        std::string("\x92\x02\xdd\xff\xff\xff\xff", 7)}) {
    CHECK(fault_of(frame).code == "version");
    CHECK(fault_of(frame).session == SessionId{});
  }
  CHECK(fault_of(body({2, 1, 77})).session == kSession);
  CHECK(fault_of(std::string("\x93\x02\xa5HELLO\x4d", 9)).session == kSession);
}

// A DONE and a LEASE of two jobs each, the second of which `put` writes.
template <typename Put>
std::string done_of_two(Put&& put) {
  Writer out;
  out.array(5).uint(1).uint(12).uint(77).uint(4).array(2).array(3).uint(1).uint(2).nil();
  put(out);
  return out.take();
}
template <typename Put>
std::string lease_of_two(Put&& put) {
  Writer out;
  out.array(6).uint(1).uint(40).uint(77).str("q").array(2);
  out.array(5).uint(1).uint(2).uint(1).boolean(true).bin("one");
  put(out);
  out.uint(30'000);
  return out.take();
}

TEST_CASE("the lists of DONE and LEASE are read alike in each form that msgpack has",
          "[protocol]") {
  const auto signed_seven = std::string("\xd3\0\0\0\0\0\0\0\x07", 9);
  const std::string wide_seven("\xcf\0\0\0\0\0\0\0\x07", 9), wide_array("\xdc\0\x03", 3);
  const std::vector<std::string> dones{
      done_of_two([](Writer& out) { out.array(3).uint(7).uint(300).bin("r"); }),
      done_of_two([](Writer& out) { out.array(3).uint(7).uint(300).str("r"); }),
      done_of_two([](Writer& out) { out.array(4).uint(7).uint(300).bin("r").uint(9); }),
      done_of_two([&](Writer& out) { out.array(3).raw(signed_seven).uint(300).bin("r"); }),
      done_of_two([&](Writer& out) { out.array(3).raw(wide_seven).uint(300).bin("r"); }),
      done_of_two([&](Writer& out) { out.raw(wide_array).uint(7).uint(300).bin("r"); })};
  for (const std::string& frame : dones) {
    auto decoded = decode_from_client(frame);
    REQUIRE(std::holds_alternative<Envelope<FromClient>>(decoded));
    const auto& done = std::get<Done>(std::get<0>(decoded).message);
    CHECK(done.batch == 4);
    REQUIRE(done.jobs.size() == 2);
    CHECK(done.jobs[0].lease == Lease{{1}, {2}});
    CHECK_FALSE(done.jobs[0].has_result);
    CHECK(done.jobs[1].lease == Lease{{7}, {300}});
    CHECK(done.jobs[1].has_result);
    CHECK(done.jobs[1].result == "r");
  }
  const std::vector<std::string> leases{
      lease_of_two(
          [](Writer& out) { out.array(5).uint(7).uint(300).uint(3).boolean(false).bin(""); }),
      lease_of_two(
          [](Writer& out) { out.array(5).uint(7).uint(300).uint(3).boolean(false).str(""); }),
      lease_of_two([](Writer& out) {
        out.array(6).uint(7).uint(300).uint(3).boolean(false).bin("").nil();
      })};
  for (const std::string& frame : leases) {
    auto decoded = decode_from_broker(frame);
    REQUIRE(std::holds_alternative<Envelope<FromBroker>>(decoded));
    const auto& grant = std::get<LeaseGrant>(std::get<0>(decoded).message);
    CHECK(grant.lease == Millis(30'000));
    REQUIRE(grant.jobs.size() == 2);
    CHECK(grant.jobs[0].payload == "one");
    CHECK(grant.jobs[0].wants_result);
    CHECK(grant.jobs[1].lease == Lease{{7}, {300}});
    CHECK(grant.jobs[1].attempt == 3);
    CHECK_FALSE(grant.jobs[1].wants_result);
    CHECK(grant.jobs[1].payload.empty());
  }
}

TEST_CASE("a DONE or LEASE whose list holds something else is malformed", "[protocol]") {
  for (const std::string& frame :
       {done_of_two([](Writer& out) { out.array(2).uint(7).uint(300); }),
        done_of_two([](Writer& out) { out.array(3).uint(7).nil().nil(); }),
        done_of_two([](Writer& out) { out.array(3).uint(7).uint(300).boolean(true); }),
        done_of_two([](Writer& out) { out.array(3).uint(7).uint(300).raw("\xc4\x09"); })})
    CHECK(fault_of(frame).code == "malformed");
  for (const std::string& frame :
       {lease_of_two([](Writer& out) { out.array(5).uint(7).uint(300).uint(3).uint(1).bin(""); }),
        lease_of_two([](Writer& out) { out.array(4).uint(7).uint(300).uint(3).boolean(true); })})
    CHECK(std::holds_alternative<Fault>(decode_from_broker(frame)));
}

TEST_CASE("a fault names the sequence or the batch that the frame was about", "[protocol]") {
  using Kind = About::Kind;
  CHECK(fault_of(body({1, 2, 77, 1, 5})).about == About{Kind::seq, 5});
  CHECK(fault_of(body({1, 12, 77, 6})).about == About{Kind::batch, 6});
  CHECK(fault_of(body({1, 13, 77, 7})).about == About{Kind::batch, 7});
  CHECK(fault_of(body({1, 14, 77, 8, 1})).about == About{Kind::batch, 8});
  CHECK(fault_of(body({1, 14, 77, 8, 1})).message.find("batch 8") != std::string::npos);
  CHECK_FALSE(fault_of(body({1, 2, 77, 1})).about);
  CHECK_FALSE(fault_of(body({1, 99, 77, 1, 5})).about);
}

TEST_CASE("an ERROR tells what it is about, and is read without it", "[protocol]") {
  auto back = [](const ErrorReply& reply) {
    std::string frame = encode(kSession, FromBroker(reply));
    return std::get<ErrorReply>(std::get<0>(decode_from_broker(frame)).message);
  };
  CHECK(back({"malformed", "why", About{About::Kind::batch, 9}}).about ==
        About{About::Kind::batch, 9});
  CHECK_FALSE(back({"malformed", "why"}).about);
}

TEST_CASE("the session of a frame is read whatever else is in it", "[protocol]") {
  CHECK(session_of(body({1, 20, 77})) == kSession);
  CHECK(session_of(body({2, 99, 77, 1}) + "junk") == kSession);
  CHECK(session_of(body({1, 20})) == SessionId{});
  CHECK(session_of("GET / HTTP/1.1") == SessionId{});
}

TEST_CASE("a QUERY of more jobs than the limit is refused, however it is cut into ranges",
          "[protocol]") {
  auto frame = [](uint64_t count) {
    Query query{{{{1}, count}, {{1}, 1}}};
    return encode(kSession, FromClient(query));
  };
  CHECK(std::holds_alternative<Envelope<FromClient>>(
      decode_from_client(frame(kMaxJobsPerQuery - 1))));
  CHECK(fault_of(frame(kMaxJobsPerQuery)).code == "malformed");
  CHECK(fault_of(frame(UINT64_MAX - 1)).code == "malformed");
}

TEST_CASE("every truncation of a frame is refused without reading beyond it", "[protocol]") {
  Done done{3, {{{{1}, {2}}, true, "result"}, {{{2}, {3}}, false, ""}}};
  std::string frame = encode(kSession, FromClient(done));
  for (size_t size = 0; size < frame.size(); ++size) {
    std::string cut = frame.substr(0, size);
    cut.shrink_to_fit();
    CHECK(fault_of(cut).code == "malformed");
  }
}

TEST_CASE("an array that claims more elements than there are costs no memory", "[protocol]") {
  std::string frame = body({1, 12, 77, 1}).substr(1);
  frame = "\x95" + frame + std::string("\xdd\xff\xff\xff\xff", 5);
  CHECK(fault_of(frame).code == "malformed");
}

TEST_CASE("a WELCOME and an OUTCOME reach the client whole", "[protocol]") {
  Welcome welcome;
  welcome.broker = {0x3f9a1c07};
  welcome.durability = "confirmed";
  welcome.window_jobs = 100;
  welcome.stale = {{{4}, {5}}};
  auto frame = encode(kSession, FromBroker(welcome));
  auto decoded = decode_from_broker(frame);
  REQUIRE(decoded.index() == 0);
  const auto& back = std::get<Welcome>(std::get<0>(decoded).message);
  CHECK(back.broker == welcome.broker);
  CHECK(back.window_jobs == 100);
  CHECK(back.stale == welcome.stale);

  Outcome outcome{
      {{{{9}, 1}, JobState::done, 2, true, false, "r", ""}, {{{10}, 5}, JobState::dead, 1}}};
  frame = encode(kSession, FromBroker(outcome));
  decoded = decode_from_broker(frame);
  REQUIRE(decoded.index() == 0);
  const auto& entries = std::get<Outcome>(std::get<0>(decoded).message).entries;
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].result == "r");
  CHECK(entries[1].jobs == JobRange{{10}, 5});
  CHECK(entries[1].state == JobState::dead);
}
