#!/usr/bin/env bash
# Installs the Debian packages that building, testing and demonstrating Millrace need.
# Silent and quick when everything is there, so that the other scripts call it first.
set -euo pipefail

packages=(
  build-essential g++ cmake ninja-build pkg-config ccache
  libzmq3-dev cppzmq-dev libmsgpack-cxx-dev libspdlog-dev catch2 libcli11-dev
  libtomlplusplus-dev nlohmann-json3-dev libboost-dev libxxhash-dev libsodium-dev libmimalloc-dev robin-map-dev zlib1g-dev libncurses-dev tmux
  python3 python3-zmq python3-msgpack python3-clustershell curl shellcheck bats openssh-client gnuplot-nox
)
# For tests/integration/hosts. A developer's machine gets an sshd only when it is asked for.
readonly kHostsPackages=(openssh-server iproute2)
# For scripts/test.sh's checks of the code.
readonly kLintPackages=(clang-format clang-tidy)
# For scripts/bench-gateway.sh.
readonly kBenchPackages=(wrk)
# For scripts/jmeter.sh.
readonly kJMeterPackages=(jmeter jmeter-http gnuplot-nox)

usage() {
  cat <<'TEXT'
Usage: scripts/setup.sh [--check] [--hosts] [--lint] [--bench] [--jmeter]

Installs what is missing through apt, as root or by sudo without a password.

  --check   install nothing: print the missing packages, one a line
  --hosts   also what the tests across hosts need (openssh-server, iproute2); without it they are
            skipped. Mind that installing openssh-server starts it where systemd runs
  --lint    also clang-format and clang-tidy, without which scripts/test.sh does not check the code
  --bench   also the load tool of scripts/bench-gateway.sh (wrk)
  --jmeter  also JMeter, its Java and gnuplot (scripts/jmeter.sh)
  --help    this text

Exit: 0 everything is there; 64 usage; 69 packages are missing and can't (--check: may not) be
installed; 74 apt-get failed.
TEXT
}

fail() {
  local code=$1
  shift
  echo "setup.sh: $*" >&2
  exit "$code"
}

# Sets `missing`. One dpkg-query for all packages: a process for each would take a second.
find_missing() {
  command -v dpkg-query >/dev/null || fail 69 "dpkg-query is not here, so this is not Debian or" \
    "a relative of it; install by hand what these packages hold: ${packages[*]}"
  local name state
  local -A installed=()
  while read -r name state; do
    [[ $state == installed ]] && installed[$name]=1
  done < <(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
  missing=()
  for name in "${packages[@]}"; do
    [[ -n ${installed[$name]:-} ]] || missing+=("$name")
  done
}

# Sets `as_root`: the words to put before a command that needs root.
find_root() {
  as_root=()
  [[ $(id -u) == 0 ]] && return 0
  as_root=(sudo -n)
  command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

install_missing() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
  echo "setup.sh: installing ${missing[*]}" >&2
  "${as_root[@]}" "${apt[@]}" update >&2 ||
    echo "setup.sh: 'apt-get update' failed; going on with the package lists that are here" >&2
  "${as_root[@]}" "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2 ||
    fail 74 "apt-get could not install ${missing[*]}; its reason stands above (often: no network," \
      "or no Debian mirror in /etc/apt); remedy it and run scripts/setup.sh again"
}

main() {
  local check=0
  while (($#)); do
    case $1 in
      --check) check=1 ;;
      --bench) packages+=("${kBenchPackages[@]}") ;;
      --hosts) packages+=("${kHostsPackages[@]}") ;;
      --lint) packages+=("${kLintPackages[@]}") ;;
      --jmeter) packages+=("${kJMeterPackages[@]}") ;;
      --help | -h) usage && exit 0 ;;
      *) fail 64 "unknown argument '$1'; see scripts/setup.sh --help" ;;
    esac
    shift
  done

  local missing as_root
  find_missing
  ((${#missing[@]})) || exit 0

  local command="apt-get install --no-install-recommends ${missing[*]}"
  if ((check)); then
    printf '%s\n' "${missing[@]}"
    fail 69 "${#missing[@]} packages are missing; run scripts/setup.sh, or as root: $command"
  fi
  find_root || fail 69 "packages are missing, and installing them needs root or a sudo that asks" \
    "no password; run: sudo $command"
  install_missing
}

main "$@"
