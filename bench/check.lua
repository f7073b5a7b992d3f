-- What wrk sends: heads with places to fill in, anew for every request. wrk calls init, then request, and delay
-- where there is one, then done. All that can be made once is: the script must not be slower than the server.

local CLIENTS = 250

local heads, credentials, clients, values = {}, {}, {}, {}
local paths, sent

-- A head in pieces, each place a piece of its own: where they are, and what goes there.
local function parsed(head)
  local pieces, places, names = {}, {}, {}
  for text, name in (head .. "{}"):gmatch("([^{]*){(%w*)}") do
    pieces[#pieces + 1] = text
    if name ~= "" then
      pieces[#pieces + 1] = ""
      places[#places + 1] = #pieces
      names[#names + 1] = name
    end
  end
  return { pieces = pieces, places = places, names = names }
end

-- The run's number, how many paths, a pause in ms (0: none), a file of credentials and how many of them, heads.
function init(arguments)
  local run, pause, most = tonumber(arguments[1]), tonumber(arguments[3]), tonumber(arguments[5])
  math.randomseed(run)
  sent, paths = run * 1e8, tonumber(arguments[2])
  for line in io.lines(arguments[4]) do
    credentials[#credentials + 1] = line
    clients[#clients + 1] = tostring(#clients % CLIENTS)
    if #credentials == most then break end
  end
  for index = 6, #arguments do heads[#heads + 1] = parsed(arguments[index]) end
  if pause > 0 then
    function delay() return math.random(1, 2 * pause - 1) end
  end
end

function request()
  local who = math.random(#credentials)
  sent = sent + 1
  values.path, values.n = math.random(paths), sent
  values.credential, values.client = credentials[who], clients[who]
  values.a, values.b, values.c = math.floor(sent / 1e8), math.floor(sent / 1e4) % 1e4, sent % 1e4
  local head = heads[math.random(#heads)]
  local pieces, places, names = head.pieces, head.places, head.names
  for index = 1, #places do pieces[places[index]] = values[names[index]] end
  return table.concat(pieces)
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "failed": %d, "refused": %d, "p50_us": %f, "p99_us": %f}\n',
    summary.requests, summary.duration / 1e6, failed, errors.status, latency:percentile(50), latency:percentile(99)
  ))
end
