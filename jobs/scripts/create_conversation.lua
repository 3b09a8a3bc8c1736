#!lua
-- Creates a conversation with its first items, and its feed.
-- KEYS  conversation_key
-- ARGV  prefix, id, owner, account (whose bytes are counted; "" if they are not limited), created_at, metadata, ttl_ms,
--       max_bytes, max_items, max_account_bytes (0 means no limit), items... (two for each: its id, and the item)
-- Returns {"created"} · {"full", "bytes" or "items" or "account_bytes"} · {"gone"}: a conversation with this id was
--         deleted
-- May be repeated: a conversation that exists is not changed.
-- @include CONVERSATION_BYTES ENTRY_BYTES now account_bytes book_size add_items keep_conversation add_feed_event add_item_events
local found = redis.call('HMGET', conversation_key, 'owner', 'deleted')
if found[1] then return { found[2] and 'gone' or 'created' } end

local time, bytes = now(), CONVERSATION_BYTES + #metadata + #items / 2 * ENTRY_BYTES
for index = 2, #items, 2 do bytes = bytes + #items[index] end
if bytes > tonumber(max_bytes) then return { 'full', 'bytes' } end
if #items / 2 > tonumber(max_items) then return { 'full', 'items' } end
if account ~= '' and tonumber(max_account_bytes) > 0
  and account_bytes(prefix, account, time) + bytes > tonumber(max_account_bytes) then
  return { 'full', 'account_bytes' }
end
bytes = CONVERSATION_BYTES + #metadata + add_items(prefix, id, items, 1, #items / 2)
redis.call('HSET', conversation_key, 'owner', owner, 'account', account, 'created_at', created_at, 'metadata', metadata,
  'bytes', bytes)
-- An older version leaves the feed of a conversation that it deletes.
redis.call('DEL', prefix .. 'feed:' .. id)
local c = { owner = owner, account = account }
add_feed_event(prefix, id, c, ttl_ms, 'created')
add_item_events(prefix, id, c, ttl_ms, 0, '', '')
book_size(prefix, account, id, bytes, time + ttl_ms, ttl_ms)
keep_conversation(prefix, id, ttl_ms)
return { 'created' }
