#!lua
-- Makes a response pending in its conversation, before it is submitted. The items that the response refers to then stay
-- readable for its worker, and the items of the response are appended later, even if the processes that should append
-- them die.
-- KEYS  conversation_key
-- ARGV  prefix, id, owner, response (id), hold_ms (maximum lifetime of a job), ttl_ms, settle_ms (after which workers
--       look whether items are still missing), max_pending, bytes (of the input items), count (of the input items),
--       max_bytes, max_items, max_account_bytes (0 means no limit), max_events (of the feed)
-- Returns {"held"} · {"gone"} · {"busy"}: too many pending responses · {"full", "bytes", "items", "account_bytes" or
--         "events"}
-- May be repeated: a response that is already pending stays pending.
-- @include STRUCTURE_TTL ENTRY_BYTES now fields account_bytes book_size keep_conversation feed_is_full
local c = fields(conversation_key, 'owner', 'account', 'bytes', 'deleted')
if c.owner ~= owner or c.deleted then return { 'gone' } end

local time, pending, added = now(), prefix .. 'pending:' .. id, bytes + count * ENTRY_BYTES
if redis.call('HEXISTS', pending, response) == 1 then return { 'held' } end
if redis.call('HLEN', pending) >= tonumber(max_pending) then return { 'busy' } end
if c.bytes + added > tonumber(max_bytes) then return { 'full', 'bytes' } end
if redis.call('LLEN', prefix .. 'items:' .. id) + count > tonumber(max_items) then return { 'full', 'items' } end
if feed_is_full(prefix, id, max_events) then return { 'full', 'events' } end
if c.account ~= '' and tonumber(max_account_bytes) > 0
  and account_bytes(prefix, c.account, time) + added > tonumber(max_account_bytes) then
  return { 'full', 'account_bytes' }
end

redis.call('HSET', pending, response, time .. ' 0')
redis.call('ZADD', prefix .. 'unsettled', 'NX', time + settle_ms, id)
redis.call('PEXPIRE', prefix .. 'unsettled', STRUCTURE_TTL)
-- The conversation must outlive the response, whose worker reads the conversation's items.
local ttl = math.max(tonumber(ttl_ms), tonumber(hold_ms))
keep_conversation(prefix, id, ttl)
book_size(prefix, c.account, id, tonumber(c.bytes), time + ttl, ttl)
return { 'held' }
