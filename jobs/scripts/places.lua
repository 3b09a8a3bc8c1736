#!lua flags=no-writes
-- Where each owner's queue stands: a place is a job's number less the head's, plus one.
-- KEYS  numbers
-- ARGV  prefix, owner...
-- Returns {pace in ms ("" where unknown), head number (or 0)...}
-- May be repeated: it writes nothing.
local prefix, answer = ARGV[1], { redis.call('HGET', KEYS[1], '~pace') or '' }
for index = 2, #ARGV do
  local head = redis.call('LINDEX', prefix .. 'ready:' .. ARGV[index], 0)
  answer[index] = head and tonumber(redis.call('HGET', prefix .. 'job:' .. head, 'number') or 0) or 0
end
return answer
