#!/usr/bin/env bats
# scripts/setup.sh: what it reports, when it installs, and how it gives up.

load helpers

# dpkg-query knows all packages but those given.
installed_but() {
  local missing=" $* "
  stand_in dpkg-query "
    for name in \"\${@:3}\"; do
      [[ '$missing' == *\" \$name \"* ]] || echo \"\$name installed\"
    done"
}

setup() {
  make_tree
  stand_in apt-get
  stand_in id 'echo 0'
  stand_in sudo 'exit 1'
  setup="$tree/scripts/setup.sh"
}

@test "with everything there it is silent and asks dpkg once" {
  installed_but
  run "$setup"
  [ "$status" -eq 0 ]
  [ -z "$output" ]
  [ "$(grep -c '^dpkg-query' "$calls")" -eq 1 ]
  not_called apt-get
}

@test "--check is silent with everything there" {
  installed_but
  run "$setup" --check
  [ "$status" -eq 0 ]
  [ -z "$output" ]
}

@test "--check lists what is missing and installs nothing" {
  installed_but catch2 libzmq3-dev
  run "$setup" --check
  [ "$status" -eq 69 ]
  [ "${lines[0]}" = libzmq3-dev ]
  [ "${lines[1]}" = catch2 ]
  says "apt-get install"
  not_called apt-get
}

@test "root installs exactly what is missing" {
  installed_but catch2 bats
  run "$setup"
  [ "$status" -eq 0 ]
  called "update"
  called "install --no-install-recommends catch2 bats"
  not_called sudo
}

@test "a package that was removed but left its configuration counts as missing" {
  stand_in dpkg-query 'for name in "${@:3}"; do
      if [[ $name == bats ]]; then echo "bats config-files"; else echo "$name installed"; fi
    done'
  run "$setup" --check
  [ "$status" -eq 69 ]
  [ "${lines[0]}" = bats ]
}

@test "a user with sudo installs through it" {
  installed_but bats
  stand_in id 'echo 1000'
  stand_in sudo '[[ $1 == -n ]] && shift; "$@"'
  run "$setup"
  [ "$status" -eq 0 ]
  called "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get"
  called "install --no-install-recommends bats"
}

@test "a user without sudo is told the exact command" {
  installed_but catch2 bats
  stand_in id 'echo 1000'
  run "$setup"
  [ "$status" -eq 69 ]
  says "run: sudo apt-get install --no-install-recommends catch2 bats"
  not_called apt-get
}

@test "stale package lists are no reason to stop" {
  installed_but bats
  stand_in apt-get '[[ $* != *update* ]]'
  run "$setup"
  [ "$status" -eq 0 ]
  says "'apt-get update' failed"
}

@test "an installation that fails names the packages" {
  installed_but bats
  stand_in apt-get '[[ $* != *install* ]]'
  run "$setup"
  [ "$status" -eq 74 ]
  says "could not install bats"
}

@test "an sshd is installed only when it is asked for" {
  installed_but openssh-server iproute2
  run "$setup" --check
  [ "$status" -eq 0 ]
  run "$setup" --hosts
  [ "$status" -eq 0 ]
  called "install --no-install-recommends openssh-server iproute2"
}

@test "an unknown flag is a usage error" {
  run "$setup" --frobnicate
  [ "$status" -eq 64 ]
  says "--frobnicate"
}

@test "--help needs nothing" {
  run "$setup" --help
  [ "$status" -eq 0 ]
  says "Usage: scripts/setup.sh"
  [ ! -s "$calls" ]
}

@test "JMeter is installed only when it is asked for" {
  installed_but jmeter jmeter-http
  run "$setup" --check
  [ "$status" -eq 0 ]
  run "$setup" --jmeter
  [ "$status" -eq 0 ]
  called "install --no-install-recommends jmeter jmeter-http"
}

@test "--bench adds the load tool" {
  installed_but wrk
  run "$setup"
  [ "$status" -eq 0 ]
  not_called apt-get
  run "$setup" --bench
  [ "$status" -eq 0 ]
  called "install --no-install-recommends wrk"
}
