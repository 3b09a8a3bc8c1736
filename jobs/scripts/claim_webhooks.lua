#!lua flags=allow-oom
-- Assigns due webhooks to a worker, each with a lease, and counts an attempt to send each of them.
-- KEYS  hooks_key, claimed_key
-- ARGV  prefix, claim, lease_ms, count
-- Returns {{id, status, ended ms, tries, now ms, trace}...}
-- May be repeated: a repeated claim returns the same webhooks, as long as the claim still holds these webhooks.
-- @include now
local time, rows, ids = now(), {}, {}
local before = redis.call('GET', claimed_key)

local function row(id)
  local f = redis.call('HMGET', prefix .. 'hook:' .. id, 'status', 'ended', 'tries', 'claim', 'trace')
  if f[4] == claim then rows[#rows + 1] = { id, f[1], tonumber(f[2]), tonumber(f[3]), time, f[5] or '' } end
end

if before then
  for id in string.gmatch(before, '%S+') do row(id) end
  return rows
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', hooks_key, '-inf', time, 'LIMIT', 0, count)) do
  if redis.call('EXISTS', prefix .. 'hook:' .. id) == 0 then
    redis.call('ZREM', hooks_key, id) -- the webhook has expired
  else
    redis.call('HINCRBY', prefix .. 'hook:' .. id, 'tries', 1)
    redis.call('HSET', prefix .. 'hook:' .. id, 'claim', claim)
    redis.call('ZADD', hooks_key, time + lease_ms, id)
    ids[#ids + 1] = id
    row(id)
  end
end
if #ids > 0 then redis.call('SET', claimed_key, table.concat(ids, ' '), 'PX', lease_ms) end
return rows
