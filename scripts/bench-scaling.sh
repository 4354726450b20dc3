#!/usr/bin/env bash
# How throughput adds up: the durable job loop through one broker, two, three, interleaved in one run.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/scaling.py" "$@"
