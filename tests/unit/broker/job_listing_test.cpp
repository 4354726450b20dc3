// Listings of jobs: which are meant, where a page ends, and how the next one goes on.
#include "broker/listing/job_listing.h"

#include <nlohmann/json.hpp>
#include <set>

#include "broker/listing/dead_listing.h"
#include "broker/listing/payload_answer.h"
#include "tests/unit/core/harness.h"

using namespace millrace;
using namespace millrace::test;
using nlohmann::json;

namespace {

uint32_t bit(JobState state) { return uint32_t{1} << unsigned(state); }

struct Jobs {
  Harness h;
  Producer p{h, 1, uuid(1)};
  std::chrono::microseconds reads{1};  // time passes so much at each look at the clock
  int slices = 0;

  json page(const admin::ListJobs& asked) {
    listing::JobListing listing(asked, h.core(), h.now);
    Mono time = h.now.mono;
    for (slices = 1; !listing.advance(h.core(), [&] { return time += reads; }); ++slices) {
    }
    return json::parse(listing.answer(h.core()).body);
  }
  static admin::ListJobs next(admin::ListJobs asked, const json& page) {
    asked.cursor = *admin::parse_job_name(page.at("next").get<std::string>());
    return asked;
  }
  // The numbers of all jobs, page by page.
  std::vector<int> all(admin::ListJobs asked) {
    std::vector<int> numbers;
    for (;;) {
      const json listed = page(asked);
      for (const json& job : listed.at("jobs")) {
        const auto id = job.at("id").get<std::string>();
        numbers.push_back(std::stoi(id.substr(id.find('-') + 1)));
      }
      if (listed.at("next").is_null()) return numbers;
      asked = next(asked, listed);
    }
  }
  // Leases all that is ready.
  std::vector<Lease> lease() {
    h.clear();
    h.dispatch();
    return granted(h);
  }
};

}  // namespace

TEST_CASE("a listing has the jobs that all its conditions fit", "[listing]") {
  Jobs j;
  j.p.submit({"1", "2", "3"});
  j.p.submit({"4"}, {}, "other");
  protocol::SubmitOptions later;
  later.delay = Millis(60'000);
  j.p.submit({"5"}, later);
  Worker w(j.h, 2, uuid(2), 2);
  const auto leases = j.lease();
  REQUIRE(leases.size() == 2);
  w.fail(leases[0], protocol::FailKind::permanent);
  CHECK(j.all({}) == std::vector{1, 2, 3, 4, 5});
  admin::ListJobs asked;
  asked.filter.queue = "q";
  CHECK(j.all(asked) == std::vector{1, 2, 3, 5});
  asked.filter.states = bit(JobState::dead) | bit(JobState::scheduled);
  CHECK(j.all(asked) == std::vector{1, 5});
  asked.filter.error = "luck";
  CHECK(j.all(asked) == std::vector{1});
  asked.filter.error = "else";
  CHECK(j.all(asked).empty());
  asked.filter = {};
  asked.filter.worker = "w";  // one failed there, one runs there
  CHECK(j.all(asked) == std::vector{1, 2});
  asked.filter.worker = uuid(2).hex();
  CHECK(j.all(asked) == std::vector{2});
  asked.filter = {};
  asked.filter.age = Millis(1000);
  CHECK(j.all(asked).empty());
  j.h.now.wall += Millis(1000);
  CHECK(j.all(asked) == std::vector{1});
}

TEST_CASE("a listed job says where it is and what went wrong", "[listing]") {
  Jobs j;
  j.p.submit({"1", "2"});
  Worker w(j.h, 2, uuid(2), 2);
  w.fail(j.lease().at(0));
  const json listed = j.page({});
  CHECK(listed["now_ms"] == to_int(j.h.now.wall));
  const json &failed = listed["jobs"][0], &leased = listed["jobs"][1];
  CHECK(failed["id"] == "00000007-1");
  CHECK(failed["state"] == "retry-wait");
  CHECK(failed["due_ms"] > to_int(j.h.now.wall));
  CHECK(failed["last_failure"]["error"] == "no luck");
  CHECK_FALSE(failed.contains("worker"));
  CHECK(leased["state"] == "leased");
  CHECK(leased["worker"] == "w");
  CHECK(leased["worker_id"] == uuid(2).hex());
  CHECK(leased["due_ms"].is_null());
}

TEST_CASE("pages go on where the one before ended, whatever has changed", "[listing]") {
  Jobs j;
  for (int i = 0; i < 10; ++i) j.p.submit({"x", "x", "x", "x", "x"});
  admin::ListJobs asked;
  asked.limit = 20;
  const json first = j.page(asked);
  CHECK(first["jobs"].size() == 20);
  CHECK(first["next"] == "00000007-21");
  Output out;
  j.h.core().cancel(j.h.now, {{{15}, 10}}, out);  // on both sides of the cursor
  j.h.absorb(out);
  j.p.submit({"new"});
  const auto rest = j.all(Jobs::next(asked, first));
  REQUIRE(rest.size() == 27);
  CHECK(rest.front() == 25);
  CHECK(rest.back() == 51);
}

TEST_CASE("a listing of many jobs that finds few goes on in slices, and ends in time",
          "[listing]") {
  Jobs j;
  const std::vector<std::string_view> many(1000, "x");
  for (int i = 0; i < 50; ++i) j.p.submit(many);
  j.p.submit({"y"}, {}, "other");
  admin::ListJobs asked;
  asked.filter.queue = "other";
  j.reads = std::chrono::microseconds(50);
  CHECK(j.page(asked)["jobs"].size() == 1);
  CHECK(j.slices > 5);
  j.reads = std::chrono::milliseconds(50);  // as under a load that leaves it no time
  const json cut = j.page(asked);
  CHECK(cut["jobs"].empty());
  CHECK_FALSE(cut["next"].is_null());
  CHECK(j.all(asked) == std::vector{50'001});  // each page has got further
}

TEST_CASE("a page ends when it is large", "[listing]") {
  Jobs j;
  const std::vector<std::string_view> many(1000, "x");
  for (int i = 0; i < 2; ++i) j.p.submit(many);
  Worker w(j.h, 2, uuid(2), 2000);
  const std::string error(protocol::kMaxErrorText, '\x01');  // six bytes each, as JSON
  for (const Lease& lease : j.lease())
    j.h.receive(Port::backend, 2, 2,
                protocol::Fail{++w.batch, {{lease, protocol::FailKind::permanent, error}}});
  admin::ListJobs asked;
  asked.limit = admin::ListJobs::kMaxLimit;
  const json listed = j.page(asked);
  CHECK(listed["jobs"].size() < 300);
  CHECK(listed.dump().size() < listing::JobListing::kPageBytes + (16 << 10));
  CHECK(j.all(asked).size() == 2000);
}

TEST_CASE("a key leads to its job, also when that has ended", "[listing]") {
  Jobs j;
  protocol::Submit message;
  message.floor = message.first = {1};
  message.queue = "q";
  message.payloads = {"x", "y"};
  message.keys = {"order-1", "order-2"};
  j.h.receive(Port::frontend, 1, 1, message);
  admin::ListJobs asked;
  asked.filter.queue = "q";
  asked.key = "order-2";
  CHECK(j.all(asked) == std::vector{2});
  Output out;
  j.h.core().cancel(j.h.now, {{{2}, 1}}, out);
  j.h.absorb(out);
  const json ended = j.page(asked);
  REQUIRE(ended["jobs"].size() == 1);
  CHECK(ended["jobs"][0] == json{{"id", "00000007-2"}, {"queue", "q"}, {"state", "cancelled"}});
  asked.filter.states = bit(JobState::ready);
  CHECK(j.all(asked).empty());
  asked.key = "order-3";
  CHECK(j.all(asked).empty());
}

namespace {

// Jobs die in the order in which they are named, a millisecond apart.
struct Dead : Jobs {
  Worker w{h, 2, uuid(2), 5000};
  std::vector<Lease> leases;

  explicit Dead(size_t jobs) {
    p.submit(std::vector<std::string_view>(jobs, "x"));
    leases = lease();
    REQUIRE(leases.size() == jobs);
  }
  void die(size_t number, std::string_view error) {
    h.now.wall += Millis(1);
    h.receive(
        Port::backend, 2, 2,
        protocol::Fail{++w.batch, {{leases.at(number - 1), protocol::FailKind::permanent, error}}});
  }
  json dead(const admin::ListDead& asked) {
    listing::DeadListing listing(asked, h.core(), h.now);
    Mono time = h.now.mono;
    for (slices = 1; !listing.advance(h.core(), [&] { return time += reads; }); ++slices) {
    }
    return json::parse(listing.answer(h.core()).body);
  }
  static std::vector<std::string> ids(const json& page) {
    std::vector<std::string> found;
    for (const json& job : page.at("dead"))
      found.push_back(job.at("id").get<std::string>().substr(9));
    return found;
  }
  // As the HTTP side reads it.
  static std::pair<WallMs, JobId> cursor(const json& page) {
    const auto text = page.at("next").get<std::string>();
    return {wall_from_int(std::stoll(text)), {std::stoull(text.substr(text.find('.') + 1))}};
  }
};

}  // namespace

TEST_CASE("dead jobs are listed by their deaths, the newest first, page by page", "[listing]") {
  Dead d(7);
  for (size_t number : {3, 6, 1, 5, 2}) d.die(number, "no luck");
  admin::ListDead asked;
  asked.limit = 2;
  const json first = d.dead(asked);
  CHECK(first["count"] == 5);
  CHECK(first["examined"] == 5);
  CHECK(Dead::ids(first) == std::vector<std::string>{"2", "5"});
  CHECK(first["dead"][0]["reason"] == "failed permanently (no luck)");
  asked.cursor = Dead::cursor(first);
  d.die(4, "later");  // and one of the next page goes
  d.h.bulk({BulkKind::retry, "", {{{{6}, 1}}, "", "", Millis(0)}});
  CHECK(Dead::ids(d.dead(asked)) == std::vector<std::string>{"1", "3"});
  asked.cursor = Dead::cursor(d.dead(asked));
  const json last = d.dead(asked);
  CHECK(last["dead"].empty());
  CHECK(last["next"].is_null());
  asked = {};
  asked.filter.error = "later";
  CHECK(Dead::ids(d.dead(asked)) == std::vector<std::string>{"4"});
  asked.filter = {};
  asked.filter.age = Millis(3);
  CHECK(Dead::ids(d.dead(asked)) == std::vector<std::string>{"1", "3"});
  asked.filter.queue = "q";
  asked.filter.worker = "nobody";
  CHECK(Dead::ids(d.dead(asked)).empty());
}

TEST_CASE("dead jobs are grouped by their errors, whatever numbers these hold", "[listing]") {
  Dead d(300);
  d.die(1, "order 17 at 10:22 is not paid");
  d.die(2, "order 4 at 9:01 is not paid");
  d.die(3, "host deadbeef42 is down");
  admin::ListDead asked;
  asked.grouped = true;
  const json few = d.dead(asked);
  REQUIRE(few["groups"].size() == 2);
  CHECK(few["groups"][0]["error"] == "host N is down");
  CHECK(few["groups"][1]["error"] == "order N at N:N is not paid");
  CHECK(few["groups"][1]["jobs"] == 2);
  CHECK(few["groups"][1]["newest"] == "00000007-2");
  CHECK(few["matched"] == 3);
  CHECK(few["next"].is_null());
  for (size_t number = 4; number <= 300; ++number)
    d.die(number,
          "kind " + std::string(1, char('a' + number % 20)) + std::string(number / 20, 'x'));
  const json many = d.dead(asked);
  CHECK(many["groups"].size() == listing::DeadListing::kMaxGroups);
  CHECK(many["matched"] == 300);
  uint64_t jobs = many["other"];
  for (const json& group : many["groups"]) jobs += group["jobs"].get<uint64_t>();
  CHECK(jobs == 300);
  d.reads = std::chrono::milliseconds(400);  // as under a load that leaves it no time
  const json cut = d.dead(asked);
  CHECK(cut["examined"] < 300);
  REQUIRE_FALSE(cut["next"].is_null());
  asked.cursor = Dead::cursor(cut);
  CHECK(d.dead(asked)["examined"] > 0);
}

TEST_CASE("an error's group keeps words and loses numbers", "[listing]") {
  CHECK(listing::error_group("") == "");
  CHECK(listing::error_group("exit 65") == "exit N");
  CHECK(listing::error_group("feedbeed is a word, 0badf00d is none") ==
        "feedbeed is a word, N is none");
  CHECK(listing::error_group("3f9a1c07-42: id 550e8400-e29b-41d4-a716-446655440000") == "N: id N");
  CHECK(listing::error_group(std::string(1000, 'z')).size() == 200);
}

TEST_CASE("a payload's kind is that which a browser only shows", "[listing]") {
  CHECK(listing::kind_of_payload("") == "text");
  CHECK(listing::kind_of_payload("<html><script>x</script>") == "text");
  CHECK(listing::kind_of_payload("{\"a\": [1]}\n") == "json");
  CHECK(listing::kind_of_payload("{\"a\": [1}") == "text");
  CHECK(listing::kind_of_payload("12") == "text");
  CHECK(listing::kind_of_payload("gr\xc3\xbc\xc3\x9f\tx\r\n") == "text");
  CHECK(listing::kind_of_payload("\x1b[2J") == "binary");
  CHECK(listing::kind_of_payload("\xff\xfe") == "binary");
  CHECK(listing::kind_of_payload(std::string_view("a\0b", 3)) == "binary");
  const auto binary = listing::payload_answer("7-1", "\xff");
  CHECK(binary.content_type == "application/octet-stream");
  CHECK(binary.headers.back().second == "attachment; filename=\"7-1.bin\"");
}

TEST_CASE("looking at some slots misses none, whatever the work and the gaps", "[listing]") {
  SlotTable<int> table;
  std::set<uint64_t> ids{1, 2, 511, 512, 5'000, 60'000, 60'001};
  for (uint64_t id : ids) table.insert({id}, 1);
  auto look = [&](uint64_t step, JobId end) {
    std::set<uint64_t> seen;
    int calls = 0;
    for (std::optional<JobId> next = JobId{1}; next; ++calls) {
      uint64_t work = step;
      next = table.visit_some(*next, end, &work, [&](JobId id, int) {
        CHECK(seen.insert(id.value).second);
        return true;
      });
    }
    CHECK(seen == ids);
    return calls;
  };
  for (uint64_t step : {1, 7, 1024}) look(step, {60'002});
  ids.insert({40'000'000'000, 40'000'600'000});
  for (uint64_t id : {40'000'000'000, 40'000'600'000}) table.insert({id}, 1);
  CHECK(look(1024, {40'000'600'001}) < 20);  // a wide gap is crossed at once
}
