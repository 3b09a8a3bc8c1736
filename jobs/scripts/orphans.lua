#!lua
-- Records which responses clients follow, and returns orphans. An orphan is a response that no client has followed
-- for the grace period, so it has to be cancelled. The script returns the same orphan at most once per minute.
-- KEYS  followed_key
-- ARGV  grace_ms, limit, ids... (of the responses that clients follow)
-- Returns {id...}
-- May be repeated: the script sets times instead of adding to them. It returns the orphans of a lost reply again
-- after a minute.
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
