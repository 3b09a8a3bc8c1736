#!lua flags=no-writes
-- Reads the steers of a response, and their outcome.
-- KEYS  job_key, steers_key
-- ARGV  viewer (the requesting owner, or "" for every owner)
-- Returns {} if the response does not exist or the viewer may not see it · {status, successor, {steer...}}
--         The successor is the id of the response that contains the steers, "pending", or "".
-- May be repeated: it writes nothing.
local f = redis.call('HMGET', job_key, 'status', 'owner', 'steers', 'successor')
if not f[1] or (viewer ~= '' and f[2] ~= viewer) then return {} end
local steers = {}
for number = 0, tonumber(f[3] or 0) - 1 do steers[number + 1] = redis.call('HGET', steers_key, number) or '' end
return { f[1], f[4] or '', steers }
