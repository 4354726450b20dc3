#!/usr/bin/env bash
# Loads that change between waiting and computing, on each pool: how soon auto has found its size.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/change.py" "$@"
