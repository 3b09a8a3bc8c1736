#!lua
-- Appends an event to the feed of a conversation, because the feedback on a response has changed. The event names only the
-- response, because feedback is stored with the response, which may be in another partition. A full feed gets no event.
-- KEYS  conversation_key
-- ARGV  prefix, id, response, changes (the number of changes of the feedback so far), ttl_ms, max_events (of the feed)
-- Returns 1
-- May be repeated: if the last event of the feed is this one, nothing is appended. A later repetition appends the event again,
-- after which devices read the same feedback again.
-- @include fields keep_conversation ttl_after_use feed_is_full add_feed_event
local c = fields(conversation_key, 'owner', 'account', 'deleted')
if not c.owner or c.deleted or feed_is_full(prefix, id, max_events) then return 1 end

local last = redis.call('XREVRANGE', prefix .. 'feed:' .. id, '+', '-', 'COUNT', 1)[1]
local event = last and cmsgpack.unpack(last[2][2]) or {}
if event[2] == 'feedback' and event[3] == response and event[4] == changes then return 1 end
add_feed_event(prefix, id, c, ttl_ms, 'feedback', response, changes)
keep_conversation(prefix, id, ttl_after_use(prefix, id, ttl_ms))
return 1
