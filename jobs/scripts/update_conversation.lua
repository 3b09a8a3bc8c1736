#!lua
-- Replaces the metadata of a conversation.
-- KEYS  conversation_key
-- ARGV  prefix, id, owner, metadata, ttl_ms, max_events (of the feed)
-- Returns {"ok"} · {"gone"} · {"full", "events"}
-- May be repeated: the same metadata are not stored again.
-- @include now fields book_size keep_conversation ttl_after_use feed_is_full add_feed_event
local c = fields(conversation_key, 'owner', 'account', 'metadata', 'bytes', 'deleted')
if c.owner ~= owner or c.deleted then return { 'gone' } end

local bytes, ttl = c.bytes + #metadata - #c.metadata, ttl_after_use(prefix, id, ttl_ms)
if metadata ~= c.metadata then
  if feed_is_full(prefix, id, max_events) then return { 'full', 'events' } end
  redis.call('HSET', conversation_key, 'metadata', metadata, 'bytes', bytes)
  add_feed_event(prefix, id, c, ttl_ms, 'updated')
end
keep_conversation(prefix, id, ttl)
book_size(prefix, c.account, id, bytes, now() + ttl, ttl)
return { 'ok' }
