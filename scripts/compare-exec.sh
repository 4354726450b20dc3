#!/usr/bin/env bash
# The same command run by exec: handlers and by xargs -P: what a durable job costs beside a bare process.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/commands.py" "$@"
