#!lua
-- Appends the events about the log of a conversation that its feed lacks, because a process of an older version has
-- appended to the log.
-- KEYS  conversation_key
-- ARGV  prefix, id
-- Returns 1
-- May be repeated: a complete feed is not changed.
-- @include fields add_item_events
local c, length = fields(conversation_key, 'owner', 'account', 'deleted', 'fed'), redis.call('LLEN', prefix .. 'items:' .. id)
if c.owner and not c.deleted and tonumber(c.fed or 0) < length then
  add_item_events(prefix, id, c, redis.call('PTTL', conversation_key), length, '', '')
end
return 1
