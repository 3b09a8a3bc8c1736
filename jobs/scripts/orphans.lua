#!lua
-- Records which responses are followed, and returns orphans: responses that are to be cancelled because nobody
-- has followed them for the grace period. An orphan is not returned again for a minute.
-- KEYS  followed_key
-- ARGV  grace_ms, limit, ids... (that are followed)
-- Returns {id...}
-- May be repeated: a time is set, not added to; the orphans of a lost reply are returned again later.
-- @include STRUCTURE_TTL now cap
local time = now()
cap(followed_key, time + math.max(grace_ms, 60000), limit)
for index = 1, #ids do
  redis.call('ZADD', followed_key, 'XX', 'GT', time + grace_ms, ids[index])
end
local due = redis.call('ZRANGEBYSCORE', followed_key, '-inf', time, 'LIMIT', 0, limit)
for _, id in ipairs(due) do redis.call('ZADD', followed_key, time + 60000, id) end
if redis.call('EXISTS', followed_key) == 1 then redis.call('PEXPIRE', followed_key, STRUCTURE_TTL) end
return due
