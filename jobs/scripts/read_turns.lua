#!lua flags=no-writes
-- Reads the items of turns that have not been deleted.
-- KEYS  first_turn_key
-- ARGV  prefix, ids... (of turns)
-- Returns {items...}, in the order of the ids; nil for a turn that is missing or deleted
-- May be repeated: it writes nothing.
-- @include turn_is_readable
local turns = {}
for index, id in ipairs(ids) do
  local key = prefix .. 'turn:' .. id
  turns[index] = turn_is_readable(key, '') and redis.call('HGET', key, 'items') or false
end
return turns
