// Listings of jobs: which are meant, where a page ends, and how the next one goes on.
#include "broker/listing/job_listing.h"

#include <nlohmann/json.hpp>
#include <set>

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
