#!/usr/bin/env bash
# The same burst of HTTP requests without a queue and with one: what is answered, lost and done.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/overload.py" "$@"
