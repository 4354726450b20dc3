#!/usr/bin/env bash
# What hostile and broken peers cost: each attack against a broker of its own, beside an honest load.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/attack.py" "$@"
