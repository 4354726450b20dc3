#include "broker/transport/admission.h"

#include "tests/catch.h"

using namespace millrace;
using namespace millrace::server;
using core::Port;
using core::Route;

namespace {

KeySetPtr keys(std::initializer_list<const char*> names) {
  auto set = std::make_shared<KeySet>();
  for (const char* name : names) set->insert(name);
  return set;
}

}  // namespace

TEST_CASE("nobody is admitted before there is a list", "[door]") {
  Admission door;
  CHECK(!door.admits({Port::backend, 1}, "a"));
  CHECK(!door.admits({Port::backend, 1}, ""));
}

TEST_CASE("a key that is taken off the list names its connections, once", "[door]") {
  Admission door;
  CHECK(door.change_keys(keys({"a", "b"})).empty());
  CHECK(door.admits({Port::frontend, 1}, "a"));
  CHECK(door.admits({Port::backend, 1}, "b"));
  CHECK(door.admits({Port::backend, 2}, "a"));
  CHECK(!door.admits({Port::backend, 3}, "c"));
  const auto gone = door.change_keys(keys({"b", "c"}));
  CHECK(gone == std::vector<Route>{{Port::frontend, 1}, {Port::backend, 2}});
  CHECK(!door.admits({Port::backend, 2}, "a"));
  CHECK(door.admits({Port::backend, 3}, "c"));
  CHECK(door.change_keys(keys({"b", "c"})).empty());
}

TEST_CASE("a route that comes again with another key counts as that one's", "[door]") {
  Admission door;
  (void)door.change_keys(keys({"a", "b"}));
  CHECK(door.admits({Port::backend, 7}, "a"));
  CHECK(door.admits({Port::backend, 7}, "b"));
  CHECK(door.change_keys(keys({"b"})).empty());
  CHECK(door.change_keys(keys({})).size() == 1);
}

TEST_CASE("what is remembered of connections stays bounded by those that live", "[door]") {
  Admission door;
  (void)door.change_keys(keys({"a"}));
  uint64_t id = 0;
  while (!door.is_crowded()) CHECK(door.admits({Port::backend, ++id}, "a"));
  door.keep_only({{Port::backend, 1}, {Port::backend, id}, {Port::frontend, 1}});
  CHECK(!door.is_crowded());
  CHECK(door.change_keys(keys({})) == std::vector<Route>{{Port::backend, 1}, {Port::backend, id}});
}
