#!lua flags=allow-oom
-- Assigns due deliveries of one kind to a worker, each with a lease, and counts an attempt to send each of them.
-- KEYS  queue_key, claimed_key
-- ARGV  prefix, kind ("hook", "push" or "feedback"), claim, lease_ms, count
-- Returns {{id, status, ended ms, tries, now ms, trace, owner ("" for the webhook of an
--         ended response), message (of a feedback, else ""), changes (of a feedback, else 0)}...}
-- May be repeated: a repeated claim returns the same deliveries, as long as the claim still holds these deliveries.
-- @include now
local time, rows, ids = now(), {}, {}
local before = redis.call('GET', claimed_key)
local function name_of(id) return prefix .. kind .. ':' .. id end

local function row(id)
  local f = redis.call('HMGET', name_of(id), 'status', 'ended', 'tries', 'claim', 'trace', 'owner', 'message', 'changes')
  if f[4] == claim then
    rows[#rows + 1] = { id, f[1], tonumber(f[2]), tonumber(f[3]), time, f[5] or '', f[6] or '', f[7] or '', tonumber(f[8] or 0) }
  end
end

if before then
  for id in string.gmatch(before, '%S+') do row(id) end
  return rows
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue_key, '-inf', time, 'LIMIT', 0, count)) do
  if redis.call('EXISTS', name_of(id)) == 0 then
    redis.call('ZREM', queue_key, id) -- the delivery has expired
  else
    redis.call('HINCRBY', name_of(id), 'tries', 1)
    redis.call('HSET', name_of(id), 'claim', claim)
    redis.call('HDEL', name_of(id), 'changed')
    redis.call('ZADD', queue_key, time + lease_ms, id)
    ids[#ids + 1] = id
    row(id)
  end
end
if #ids > 0 then redis.call('SET', claimed_key, table.concat(ids, ' '), 'PX', lease_ms) end
return rows
