#!/usr/bin/env bash
# A cluster in the background, on this machine or on the hosts of a file: scripts/cluster does the work.
set -euo pipefail
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/cluster" "$@"
