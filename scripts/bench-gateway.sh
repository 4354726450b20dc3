#!/usr/bin/env bash
# Durable POSTs through the gateway, beside the same HTTP code without a broker behind it.
exec /usr/bin/python3 -B "$(dirname "${BASH_SOURCE[0]}")/bench/gateway.py" "$@"
