#!lua
-- Appends items to a conversation, and events about them to its feed. The order in which Redis runs this script is the
-- order of the items and of the events.
-- KEYS  conversation_key
-- ARGV  prefix, id, response (id of the response whose items these are; "" if a client adds items), status (the final
--       status of the response, if these are all of its items; else ""), previous (id of the response that this response
--       continues; "-" if it continues none; "" for the newest response of the conversation), model (the name of the
--       model that answered; "" if none did), ttl_ms, max_bytes, max_items, max_account_bytes (0 means no limit; the
--       three limits apply only if `response` is ""), input_count (the number of leading `items` that are the input of
--       the response), items... (two for each: its id, and the item)
-- Returns {"ok"} · {"gone"} · {"full", "bytes" or "items" or "account_bytes"}
-- May be repeated: in any order and by several processes. An item whose id the conversation has or had is not appended
-- again. So the input items of a response, which a server appends first, may be repeated before the output items.
-- @include ENTRY_BYTES now fields account_bytes book_size add_items keep_conversation ttl_after_use end_pending add_feed_event
-- @include add_item_events
local c = fields(conversation_key, 'owner', 'account', 'bytes', 'deleted', 'fed', 'last_response')
local pending = prefix .. 'pending:' .. id
if not c.owner then return { 'gone' } end
if c.deleted then
  if status ~= '' then
    redis.call('HDEL', pending, response)
    end_pending(prefix, id)
  end
  return { 'gone' }
end

local time = now()
if response == '' then
  local bytes, count = 0, 0
  for index = 1, #items, 2 do
    if redis.call('HEXISTS', prefix .. 'positions:' .. id, items[index]) == 0 then
      bytes, count = bytes + #items[index + 1] + ENTRY_BYTES, count + 1
    end
  end
  if c.bytes + bytes > tonumber(max_bytes) then return { 'full', 'bytes' } end
  if redis.call('LLEN', prefix .. 'items:' .. id) + count > tonumber(max_items) then return { 'full', 'items' } end
  if c.account ~= '' and tonumber(max_account_bytes) > 0
    and account_bytes(prefix, c.account, time) + bytes > tonumber(max_account_bytes) then
    return { 'full', 'account_bytes' }
  end
end

local value = redis.call('HGET', pending, response)
if value and string.sub(value, -1) == '0' then
  if previous == '' then previous = c.last_response or '' end
  add_feed_event(prefix, id, c, ttl_ms, 'response_created', response, previous == '-' and '' or previous)
  redis.call('HSET', pending, response, string.match(value, '^%d+') .. ' 1')
  redis.call('HSET', conversation_key, 'last_response', response)
end
-- A device shows the input as the prompt and the output as the answer, so each has an event of its own.
local bytes, split = tonumber(c.bytes), tonumber(input_count)
local function add(first, last, field)
  local length = redis.call('LLEN', prefix .. 'items:' .. id)
  bytes = bytes + add_items(prefix, id, items, first, last)
  add_item_events(prefix, id, c, ttl_ms, length, response, field)
end
add(1, split, 'input')
add(split + 1, #items / 2, response ~= '' and 'output' or '')
redis.call('HSET', conversation_key, 'bytes', bytes)
if value and status ~= '' then
  redis.call('HDEL', pending, response)
  add_feed_event(prefix, id, c, ttl_ms, 'response_ended', response, status, model)
end
if status ~= '' then end_pending(prefix, id) end
local ttl = ttl_after_use(prefix, id, ttl_ms)
keep_conversation(prefix, id, ttl)
book_size(prefix, c.account, id, bytes, time + ttl, ttl)
return { 'ok' }
