-- Functions for conversations, which are logs of items. This file may use the functions of _shared.lua.
--
-- A conversation has these keys; `<id>` is the id of the conversation:
--   conversation:<id>  hash: owner, account, created_at, metadata, bytes, and `deleted` while an unfinished response
--                      still needs the items of a deleted conversation
--   items:<id>         list: the log. An entry is an item, "" in the place of a deleted item, or `-` and the id of the
--                      item that was deleted at this point. The index of an entry never changes, so it is a cursor.
--   positions:<id>     hash: the index of each item by its id; -1 minus the index if the item was deleted
--   pending:<id>       hash: the responses whose items have not all been appended, by id. A value has the time at which
--                      the response was added, and 1 if its input items have been appended, else 0.
--   removed:<id>       hash: deleted items by index, while pending responses may still need them
--   feed:<id>          stream: the events for devices; `_feeds.lua` describes it
-- An account has two keys for all of its conversations: conversations:<account> is a sorted set with the times at which
-- the conversations expire, and conversation_bytes:<account> is a hash with their sizes; its field `~` is the sum.

local ENTRY_BYTES = 100 -- the bytes that count for an entry in addition to its item
local CONVERSATION_BYTES = 500 -- the bytes that count for a conversation in addition to its items and its metadata
local CONVERSATION_KEYS = { 'conversation:', 'items:', 'positions:', 'pending:', 'removed:', 'feed:' }

-- Returns true if a viewer may see what an owner has stored.
local function may_see(owner, viewer)
  if string.sub(viewer, -2) == '/*' then owner = string.sub(owner, 1, #viewer - 1) .. '*' end
  return viewer == '' or owner == viewer
end

local function keep_conversation(prefix, id, ms)
  for _, name in ipairs(CONVERSATION_KEYS) do redis.call('PEXPIRE', prefix .. name .. id, ms) end
end

-- Returns the TTL of a conversation that was just used. While a response is pending, the TTL is not shortened, because
-- the worker of the response may still need the items.
local function ttl_after_use(prefix, id, ttl_ms)
  if redis.call('HLEN', prefix .. 'pending:' .. id) == 0 then return tonumber(ttl_ms) end
  return math.max(tonumber(ttl_ms), redis.call('PTTL', prefix .. 'conversation:' .. id))
end

-- Returns the bytes of all conversations of an account, without those that have expired.
local function account_bytes(prefix, account, time)
  local expiries, sizes = prefix .. 'conversations:' .. account, prefix .. 'conversation_bytes:' .. account
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', time, 'LIMIT', 0, 1000)) do
    redis.call('HINCRBY', sizes, '~', -(redis.call('HGET', sizes, id) or 0))
    redis.call('HDEL', sizes, id)
    redis.call('ZREM', expiries, id)
  end
  return tonumber(redis.call('HGET', sizes, '~') or 0)
end

-- Records the size of a conversation for its account, and the time at which the conversation expires. `bytes` is nil
-- if the conversation was deleted. An account "" has no limit, so nothing is recorded for it.
local function book_size(prefix, account, id, bytes, expires, ttl)
  if account == '' then return end
  local expiries, sizes = prefix .. 'conversations:' .. account, prefix .. 'conversation_bytes:' .. account
  redis.call('HINCRBY', sizes, '~', (bytes or 0) - (redis.call('HGET', sizes, id) or 0))
  if bytes then
    redis.call('HSET', sizes, id, bytes)
    redis.call('ZADD', expiries, expires, id)
    redis.call('PEXPIRE', expiries, ttl)
    redis.call('PEXPIRE', sizes, ttl)
  else
    redis.call('HDEL', sizes, id)
    redis.call('ZREM', expiries, id)
    if redis.call('EXISTS', expiries) == 0 then redis.call('DEL', sizes) end
  end
end

-- Appends items, except those that the conversation has or had, and returns the size of the appended items. `flat` has
-- two values for each item: its id, and the item. Only the items from number `first` to number `last` are appended.
local function add_items(prefix, id, flat, first, last)
  local items, positions, bytes = prefix .. 'items:' .. id, prefix .. 'positions:' .. id, 0
  local length = redis.call('LLEN', items)
  for index = 2 * first - 1, 2 * last - 1, 2 do
    if redis.call('HSETNX', positions, flat[index], length) == 1 then
      redis.call('RPUSH', items, flat[index + 1])
      length, bytes = length + 1, bytes + #flat[index + 1] + ENTRY_BYTES
    end
  end
  return bytes
end

-- Removes a conversation, and everything that is stored for it.
local function drop_conversation(prefix, id)
  for _, name in ipairs(CONVERSATION_KEYS) do redis.call('DEL', prefix .. name .. id) end
  redis.call('ZREM', prefix .. 'unsettled', id)
end

-- If a conversation has no pending responses, removes what it keeps only for them: its entry in `unsettled`, its deleted
-- items, and the conversation itself if it was deleted.
local function end_pending(prefix, id)
  if redis.call('HLEN', prefix .. 'pending:' .. id) > 0 then return end
  redis.call('ZREM', prefix .. 'unsettled', id)
  redis.call('DEL', prefix .. 'removed:' .. id)
  if redis.call('HEXISTS', prefix .. 'conversation:' .. id, 'deleted') == 1 then drop_conversation(prefix, id) end
end

-- Returns three values for each pending response: its id, its age in ms, and 1 if its input items have been appended,
-- else 0.
local function pending_of(prefix, id, time)
  local flat, found = redis.call('HGETALL', prefix .. 'pending:' .. id), {}
  for index = 1, #flat, 2 do
    local added, state = string.match(flat[index + 1], '^(%d+) (%d)$')
    found[#found + 1] = flat[index]
    found[#found + 1] = time - added
    found[#found + 1] = tonumber(state)
  end
  return found
end
