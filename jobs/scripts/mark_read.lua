#!lua
-- Records up to which event of its feed a conversation was read, and appends an event to the feed. The number only grows.
-- KEYS  conversation_key
-- ARGV  prefix, id, owner, number (of the last event that the user has read), ttl_ms
-- Returns {"ok"} · {"gone"}
-- May be repeated: a number that is not greater than the stored one changes nothing. The stored number is at most that of
-- the last event about items, so the feed has at most one such event for each of these.
-- @include fields keep_conversation ttl_after_use add_feed_event
local c = fields(conversation_key, 'owner', 'account', 'deleted', 'read', 'news')
if c.owner ~= owner or c.deleted then return { 'gone' } end

local up_to = math.min(tonumber(number), tonumber(c.news or -1))
if up_to > tonumber(c.read or -1) then
  redis.call('HSET', conversation_key, 'read', up_to)
  add_feed_event(prefix, id, c, ttl_ms, 'read', up_to)
  keep_conversation(prefix, id, ttl_after_use(prefix, id, ttl_ms))
end
return { 'ok' }
