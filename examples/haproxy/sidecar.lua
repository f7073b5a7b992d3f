-- Two actions. `http-request lua.sidecar` asks Sidecar about the request, and answers what it does not allow;
-- what it does allow it marks with the variable txn.sidecar_allows. `http-response lua.sidecar_cookies` hands the
-- client the cookies that came with that.

local CHECK = {
    url = "http://sidecar/check/haproxy", -- `sidecar` is looked up nowhere:
    dst = "abns@sidecar-checks", -- `listen checks` in haproxy.cfg
    timeout = 10000, -- milliseconds; more than `timeout server` there, which decides
}

-- What a check reads of the client's, and no more.
local READ = {
    "cookie", "authorization", "x-api-key", "accept", "sec-fetch-mode", "x-requested-with", "x-request-id",
}

-- [identity_headers] in Sidecar's settings: the application gets each of them, as Sidecar says it.
local IDENTITY = {
    "x-auth-user", "x-auth-user-id", "x-auth-email", "x-auth-name",
    "x-auth-roles", "x-auth-permissions", "x-auth-account", "x-auth-method",
}

-- What belongs to this one connection, or is made anew.
local NOT_RELAYED = { ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true }

local function question(txn)
    local sent = txn.http:req_get_headers()
    local asked = {
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-proto"] = { txn.sf:ssl_fc() == "1" and "https" or "http" },
        ["x-forwarded-uri"] = { txn.sf:url() }, -- as it is passed on, not decoded
        ["x-forwarded-for"] = { txn.sf:src() },
        ["x-forwarded-host"] = sent["host"],
    }
    for _, name in ipairs(READ) do
        asked[name] = sent[name]
    end
    return { url = CHECK.url, dst = CHECK.dst, timeout = CHECK.timeout, headers = asked }
end

local function relay(txn, answer)
    local reply = txn:reply({ status = answer.status, body = answer.body })
    for name, values in pairs(answer.headers) do
        if not NOT_RELAYED[name] then
            for index = 0, #values do -- `pairs` keeps no order
                reply:add_header(name, values[index])
            end
        end
    end
    txn:done(reply)
end

-- Whether the application gets every identity header, and as Sidecar says it.
local function identify(txn, said)
    for _, name in ipairs(IDENTITY) do
        txn.http:req_set_header(name, said[name][0])
    end
    -- Where there is no room, HAProxy sets nothing and does not say so.
    local set = txn.http:req_get_headers()
    for _, name in ipairs(IDENTITY) do
        local values = set[name]
        if not values or #values > 0 or values[0] ~= said[name][0] then
            return false
        end
    end
    return true
end

core.register_action("sidecar", { "http-req" }, function(txn)
    local answer = core.httpclient():get(question(txn))
    if answer.status ~= 200 then
        relay(txn, answer)
        return
    end
    txn:set_priv(answer.headers["set-cookie"])
    txn:set_var("txn.sidecar_allows", identify(txn, answer.headers))
end)

core.register_action("sidecar_cookies", { "http-res" }, function(txn)
    local cookies = txn:get_priv()
    if not cookies then
        return
    end
    for index = 0, #cookies do
        txn.http:res_add_header("set-cookie", cookies[index])
    end
end)
