#!lua flags=allow-oom
-- Hands out webhooks that are due, each under a lease, and counts the attempt.
-- KEYS  hooks, claimed:<token>
-- ARGV  prefix, token, lease ms, count
-- Returns {{id, status, ended ms, tries, now ms}...}
-- May be repeated: the same token is handed the same webhooks while it still holds them.
local prefix, token, time, rows, ids = ARGV[1], ARGV[2], now(), {}, {}
local before = redis.call('GET', KEYS[2])

local function row(id)
  local f = redis.call('HMGET', prefix .. 'hook:' .. id, 'status', 'ended', 'tries', 'claim')
  if f[4] == token then rows[#rows + 1] = { id, f[1], tonumber(f[2]), tonumber(f[3]), time } end
end

if before then
  for id in string.gmatch(before, '%S+') do row(id) end
  return rows
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time, 'LIMIT', 0, ARGV[4])) do
  if redis.call('EXISTS', prefix .. 'hook:' .. id) == 0 then
    redis.call('ZREM', KEYS[1], id) -- too old
  else
    redis.call('HINCRBY', prefix .. 'hook:' .. id, 'tries', 1)
    redis.call('HSET', prefix .. 'hook:' .. id, 'claim', token)
    redis.call('ZADD', KEYS[1], time + ARGV[3], id)
    ids[#ids + 1] = id
    row(id)
  end
end
if #ids > 0 then redis.call('SET', KEYS[2], table.concat(ids, ' '), 'PX', ARGV[3]) end
return rows
