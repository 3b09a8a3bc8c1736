#!lua
-- Says which responses are followed, and finds those that nobody has followed for the grace and that
-- are to be cancelled then. One that is found is not found again for a minute.
-- KEYS  followed
-- ARGV  grace ms, most that are found, id...
-- Returns {id...}
-- May be repeated: a time is set, not added to; what a lost reply found is found again later.
local time = now()
for index = 3, #ARGV do
  redis.call('ZADD', KEYS[1], 'XX', 'GT', time + ARGV[1], ARGV[index])
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], time + 60000, id) end
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], STRUCTURE_TTL) end
return due
