-- A job of 256 bytes for wrk, and at the end what it counted, as one line of JSON.
wrk.method = "POST"
wrk.body = string.rep("x", 256)
wrk.headers["Content-Type"] = "application/octet-stream"

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(_)
  others = 0
end

function response(status)
  if status ~= 202 then
    others = others + 1
  end
end

function done(summary, latency, _)
  local other_answers = 0
  for _, thread in ipairs(threads) do
    other_answers = other_answers + thread:get("others")
  end
  local e = summary.errors
  print(string.format(
    'JSON {"requests":%d,"microseconds":%d,"others":%d,"errors":%d,"p50_us":%d,"p99_us":%d,"max_us":%d}',
    summary.requests, summary.duration, other_answers, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
