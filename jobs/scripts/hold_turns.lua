#!lua flags=allow-oom
-- Holds turns for a job until the job ends, and renews their TTL. A deleted turn can be held only by a job that
-- holds it already.
-- KEYS  first_turn_key
-- ARGV  prefix, job (the id of the job), ttl_ms, wanted (0/1: their items), ids...
-- Returns {items or 1...}, in the order of the ids; nil for a turn that is missing or deleted
-- May be repeated: holding a turn twice has the same effect as holding it once.
-- @include turn_is_readable
local turns = {}
for index, id in ipairs(ids) do
  local key = prefix .. 'turn:' .. id
  turns[index] = false
  if turn_is_readable(key, job) then
    redis.call('HSET', key, job, 1)
    redis.call('PEXPIRE', key, ttl_ms)
    turns[index] = wanted == '0' and 1 or redis.call('HGET', key, 'items')
  end
end
return turns
