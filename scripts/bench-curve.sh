#!/usr/bin/env bash
# What keys cost: the durable job loop with and without CURVE, interleaved in one run.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/curve.py" "$@"
