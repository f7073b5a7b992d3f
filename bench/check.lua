-- What wrk sends: one head, filled in anew for every request. wrk calls init, then request, then done.

local head, sessions, clients, paths, sent, tokens

function init(arguments)
  head = arguments[1]
  sessions, clients, paths = tonumber(arguments[2]), tonumber(arguments[3]), tonumber(arguments[4])
  local run = tonumber(arguments[5])
  math.randomseed(run)
  sent = run * 1e8
  if arguments[6] then
    tokens = {}
    for line in io.lines(arguments[6]) do tokens[#tokens + 1] = line end
  end
end

function request()
  local session = math.random(0, sessions - 1)
  sent = sent + 1
  local credential = tokens and tokens[session + 1] or session
  return head:format(math.random(paths), sent, session % clients % 250, credential)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "failed": %d, "refused": %d, "p50_us": %f, "p99_us": %f}\n',
    summary.requests, summary.duration / 1e6, failed, errors.status, latency:percentile(50), latency:percentile(99)
  ))
end
