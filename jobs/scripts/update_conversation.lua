#!lua
-- Replaces the metadata of a conversation.
-- KEYS  conversation_key
-- ARGV  prefix, id, owner, metadata, ttl_ms
-- Returns {"ok"} · {"gone"}
-- May be repeated: a second call stores the same metadata again.
-- @include now fields book_size keep_conversation ttl_after_use
local c = fields(conversation_key, 'owner', 'account', 'metadata', 'bytes', 'deleted')
if c.owner ~= owner or c.deleted then return { 'gone' } end

local bytes, ttl = c.bytes + #metadata - #c.metadata, ttl_after_use(prefix, id, ttl_ms)
redis.call('HSET', conversation_key, 'metadata', metadata, 'bytes', bytes)
keep_conversation(prefix, id, ttl)
book_size(prefix, c.account, id, bytes, now() + ttl, ttl)
return { 'ok' }
