#!/usr/bin/env bash
# The main job, with failures: a load for a durable broker and three workers, while a worker and the broker are killed.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/demo.py" "$@"
