#!lua flags=allow-oom
-- Releases the turns that a job held; a deleted turn is removed when its last holder releases it.
-- KEYS  first_turn_key
-- ARGV  prefix, job (the id of the job), ids...
-- Returns 1
-- May be repeated: releasing a turn that is not held changes nothing.
-- @include turn_is_held
for _, id in ipairs(ids) do
  local key = prefix .. 'turn:' .. id
  redis.call('HDEL', key, job)
  if redis.call('HEXISTS', key, 'deleted') == 1 and not turn_is_held(key) then redis.call('DEL', key) end
end
return 1
