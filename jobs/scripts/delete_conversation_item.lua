#!lua flags=allow-oom
-- Deletes one item of a conversation. Accepted responses that refer to the item can read it until they end.
-- KEYS  conversation_key
-- ARGV  prefix, id, viewer (as in `read.lua`), item, ttl_ms
-- Returns {"ok"} · {"gone"} · {"unknown"}: the conversation never had this item
-- May be repeated: an item that was already deleted is not changed.
-- @include ENTRY_BYTES now fields may_see book_size keep_conversation ttl_after_use add_missing_items add_feed_event
local c = fields(conversation_key, 'owner', 'account', 'bytes', 'deleted', 'fed')
if not c.owner or not may_see(c.owner, viewer) or c.deleted then return { 'gone' } end

local items, positions = prefix .. 'items:' .. id, prefix .. 'positions:' .. id
local position = tonumber(redis.call('HGET', positions, item))
if not position then return { 'unknown' } end
if position < 0 then return { 'ok' } end
local entry = redis.call('LINDEX', items, position)
redis.call('LSET', items, position, '')
redis.call('RPUSH', items, '-' .. item)
redis.call('HSET', positions, item, -1 - position)
if redis.call('HLEN', prefix .. 'pending:' .. id) > 0 then
  redis.call('HSET', prefix .. 'removed:' .. id, position, entry)
end
local length = redis.call('LLEN', items)
add_missing_items(prefix, id, c, ttl_ms, length - 1)
add_feed_event(prefix, id, c, ttl_ms, 'item_deleted', item)
local bytes, ttl = c.bytes - #entry + ENTRY_BYTES, ttl_after_use(prefix, id, ttl_ms)
redis.call('HSET', conversation_key, 'bytes', bytes, 'fed', length)
keep_conversation(prefix, id, ttl)
book_size(prefix, c.account, id, bytes, now() + ttl, ttl)
return { 'ok' }
