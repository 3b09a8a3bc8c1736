#!lua
-- Returns conversations whose pending responses are due for a check, so that the caller appends the items that a dead
-- process did not append. Another worker gets these conversations only after `again_ms`.
-- KEYS  unsettled_key
-- ARGV  prefix, again_ms, hold_ms (after which a pending response cannot exist any more), limit
-- Returns {{id, {response, age_ms, input appended (0/1)...}}...}
-- May be repeated: if the reply is lost, the conversations are due again after `again_ms`.
-- @include STRUCTURE_TTL now cap drop_pending end_pending pending_of
local time, found = now(), {}
cap(unsettled_key, time + again_ms, tonumber(limit))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', unsettled_key, '-inf', time, 'LIMIT', 0, tonumber(limit))) do
  local pending = pending_of(prefix, id, time)
  for index = 1, #pending, 3 do
    if pending[index + 1] > tonumber(hold_ms) then drop_pending(prefix, id, pending[index]) end
  end
  if redis.call('HLEN', prefix .. 'pending:' .. id) == 0 then
    end_pending(prefix, id)
  else
    redis.call('ZADD', unsettled_key, 'XX', time + again_ms, id)
    found[#found + 1] = { id, pending_of(prefix, id, time) }
  end
end
if #found > 0 then redis.call('PEXPIRE', unsettled_key, STRUCTURE_TTL) end
return found
