#!lua flags=allow-oom
-- Holds turns for a job, so that they stay readable until the job ends, and renews their TTL. A deleted turn can be
-- held only by a job that already holds it.
-- KEYS  first_turn_key
-- ARGV  prefix, job (id of the job), ttl_ms, wanted (1 to return the items of the turns, else 0), ids... (of turns)
-- Returns {items or 1...}, in the order of the ids; nil for a turn that is missing or deleted
-- May be repeated: a job that already holds a turn continues to hold it.
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
