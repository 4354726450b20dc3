#!/usr/bin/env bash
# The same load on every pool, for three kinds of job: what each threading model is good for.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/pools.py" "$@"
