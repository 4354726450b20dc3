#!/usr/bin/env bash
# Apache JMeter's burst against a server without a queue and against the gateway, and the count.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/jmeter.py" "$@"
