#!lua flags=allow-oom
-- Releases the turns that a job holds. When the last job releases a deleted turn, the script removes the turn.
-- KEYS  first_turn_key
-- ARGV  prefix, job (id of the job), ids... (of turns)
-- Returns 1
-- May be repeated: releasing a turn that the job does not hold changes nothing.
-- @include turn_is_held
for _, id in ipairs(ids) do
  local key = prefix .. 'turn:' .. id
  redis.call('HDEL', key, job)
  if redis.call('HEXISTS', key, 'deleted') == 1 and not turn_is_held(key) then redis.call('DEL', key) end
end
return 1
