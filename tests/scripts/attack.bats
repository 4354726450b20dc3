#!/usr/bin/env bats
# scripts/attack.sh: what it refuses before anything starts, and what it lists.

load helpers

setup() {
  make_tree
  stand_in scripts/build.sh
  stand_in scripts/setup.sh
  attack="$tree/scripts/attack.sh"
}

@test "--help needs nothing, and names every flag" {
  run "$attack" --help
  [ "$status" -eq 0 ]
  says "Usage: scripts/attack.sh"
  for flag in --list --seconds --calm --rate --least --rss --open-files --flag --port-base --json; do says "$flag"; done
  [ ! -s "$calls" ]
}

@test "--list says of each attack what it does" {
  run "$attack" --list
  [ "$status" -eq 0 ]
  says "idle-connections"
  says "one ZeroMQ message of parts without end"
  [ ! -s "$calls" ]
}

@test "an unknown attack, an unknown flag and a bad value are usage errors" {
  MILLRACE_BIN=/nonexistent run "$attack" idle-conections
  [ "$status" -eq 64 ]
  says "'idle-conections' is not an attack"
  MILLRACE_BIN=/nonexistent run "$attack" --frobnicate
  [ "$status" -eq 64 ]
  MILLRACE_BIN=/nonexistent run "$attack" --seconds many
  [ "$status" -eq 64 ]
}
