#!/usr/bin/env bash
# The figures of this machine, each from the real programs with every confirm behind an fdatasync.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/figures.py" "$@"
