-- wrk sends the files of a folder, one after the other:
-- wrk -s cycle.lua URL -- FOLDER COUNT CONTENT_TYPE ACCEPT [HEADER VALUE]...
-- Whole requests are put together before the clock starts, so that one thread of wrk is never the bottleneck.

local requests = {}
local next_request = 0

function init(args)
  local folder, count = args[1], tonumber(args[2])
  local headers = {["Content-Type"] = args[3], ["Accept"] = args[4]}
  for index = 5, #args, 2 do
    headers[args[index]] = args[index + 1]
  end
  for index = 0, count - 1 do
    local file = assert(io.open(folder .. "/" .. index, "rb"))
    requests[index] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  local body = requests[next_request]
  next_request = (next_request + 1) % (#requests + 1)
  return body
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
