-- Functions for feeds, which are logs of the events that devices follow. This file may use the functions of _shared.lua
-- and _conversations.lua.
--
-- A feed has one key; `<id>` is the id of a conversation, or an account for the feed of all of its conversations:
--   feed:<id>                    stream: the events. The id of an entry is its sequence number, which counts from 0, and
--                                `-1`. Its only field contains an array in MessagePack: the time in microseconds of
--                                Redis time, the kind of the event, and further values. An event contains no items and
--                                no metadata: it refers to the log or the record of its conversation.
--   conversation_list:<account>  sorted set: the conversations of an account, by the time in ms of their last change
-- Only an account that is the owner of its conversations, which is an end user with a token, has these keys for its list.
--
-- The record of a conversation has these fields for its feed: `fed`, the number of entries of the log for which the feed
-- has events; `news`, the number of the last event about items; `read`, the number up to which the user has read;
-- `last_response`, the newest response; and `updated_at`, the time in ms of the last change.

local LIST_EVENTS = 1000 -- maximum number of events in the feed of an account

-- Appends an event to a feed, and notifies the followers of its sequence number, which it returns.
local function add_event(prefix, id, ttl, kind, ...)
  local key, time = prefix .. 'feed:' .. id, redis.call('TIME')
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local number = last and string.match(last[1], '^%d+') + 1 or 0
  redis.call('XADD', key, number .. '-1', 'e', cmsgpack.pack({ time[1] * 1000000 + time[2], kind, ... }))
  redis.call('PEXPIRE', key, ttl)
  redis.call('SPUBLISH', prefix .. 'notifications:' .. id, number)
  return number
end

-- Returns true if an owner has a list of conversations. `c` has the fields `owner` and `account` of a conversation.
local function is_listed(c) return c.account ~= '' and c.account == c.owner end

-- Appends an event to the feed of the account of a conversation. Clients get the current state of the conversation with
-- each event, so the oldest events can be removed.
local function add_list_event(prefix, id, c, ttl, kind)
  add_event(prefix, c.account, ttl, kind, id)
  redis.call('XTRIM', prefix .. 'feed:' .. c.account, 'MAXLEN', LIST_EVENTS)
end

-- Appends an event to the feed of a conversation, and to the feed of its account. `ttl` is the TTL of the conversation.
-- Returns the number of the event.
local function add_feed_event(prefix, id, c, ttl, kind, ...)
  local number, time = add_event(prefix, id, ttl, kind, ...), now()
  local moves = kind ~= 'read' and kind ~= 'item_deleted' and kind ~= 'feedback'
  if moves then redis.call('HSET', prefix .. 'conversation:' .. id, 'updated_at', time) end
  if not is_listed(c) then return number end
  local list = prefix .. 'conversation_list:' .. c.account
  if moves then
    redis.call('ZADD', list, time, id)
    redis.call('PEXPIRE', list, ttl)
  end
  -- The list shows neither deleted items nor feedback. The input and the output of a response need no event in the list,
  -- because the response has events of its own.
  local response = select(3, ...)
  local shows = kind ~= 'item_deleted' and kind ~= 'feedback' and (kind ~= 'items' or response == '')
  if shows then add_list_event(prefix, id, c, ttl, kind) end
  return number
end

-- Appends an event for a range of the log, whose items belong to `response`, or to no response if it is "". `field` is
-- the field of the response that contains them: input or output.
local function add_range(prefix, id, c, ttl, first, stop, response, field)
  if stop <= first then return end
  local number = add_feed_event(prefix, id, c, ttl, 'items', first, stop, response, field)
  redis.call('HSET', prefix .. 'conversation:' .. id, 'news', number)
end

-- Appends the missing events for the log up to index `stop`. A process of an older version appends items without events.
local function add_missing_items(prefix, id, c, ttl, stop)
  local first = tonumber(c.fed or 0)
  local entries = first < stop and redis.call('LRANGE', prefix .. 'items:' .. id, first, stop - 1) or {}
  local from = first
  for index, entry in ipairs(entries) do
    if string.sub(entry, 1, 1) == '-' then
      add_range(prefix, id, c, ttl, from, first + index - 1, '', '')
      add_feed_event(prefix, id, c, ttl, 'item_deleted', string.sub(entry, 2))
      from = first + index
    end
  end
  add_range(prefix, id, c, ttl, from, stop, '', '')
end

-- Appends an event for the items that the calling script has appended to the log, from index `first` on. The items are
-- in a field of `response`, or belong to no response if it is "".
local function add_item_events(prefix, id, c, ttl, first, response, field)
  local length = redis.call('LLEN', prefix .. 'items:' .. id)
  add_missing_items(prefix, id, c, ttl, first)
  add_range(prefix, id, c, ttl, first, length, response, field)
  redis.call('HSET', prefix .. 'conversation:' .. id, 'fed', length)
  c.fed = length
end

-- Returns true if the feed of a conversation has reached its limit of events. Only accepted responses may exceed it.
local function feed_is_full(prefix, id, max_events)
  local last = redis.call('XREVRANGE', prefix .. 'feed:' .. id, '+', '-', 'COUNT', 1)[1]
  return last and string.match(last[1], '^%d+') + 1 >= tonumber(max_events)
end

-- Makes a response no longer pending in its conversation, because the response does not exist any more.
local function drop_pending(prefix, id, response)
  local key, value = prefix .. 'conversation:' .. id, redis.call('HGET', prefix .. 'pending:' .. id, response)
  if not value then return end
  redis.call('HDEL', prefix .. 'pending:' .. id, response)
  local c = fields(key, 'owner', 'account', 'deleted')
  if c.owner and not c.deleted and string.sub(value, -1) == '1' then
    add_feed_event(prefix, id, c, redis.call('PTTL', key), 'response_ended', response, 'deleted', '')
  end
end

-- Returns the state of a conversation that devices see, or nil if it does not exist: its id, created_at, updated_at,
-- metadata, `read`, `news`, the number of the last event (-1 if there is none), this event, and its running responses.
local function state_of(prefix, id)
  local c = fields(prefix .. 'conversation:' .. id, 'owner', 'created_at', 'updated_at', 'metadata', 'read', 'news', 'deleted')
  if not c.owner or c.deleted then return nil end
  local running, pending = {}, redis.call('HGETALL', prefix .. 'pending:' .. id)
  for index = 1, #pending, 2 do
    if string.sub(pending[index + 1], -1) == '1' then running[#running + 1] = pending[index] end
  end
  local last = redis.call('XREVRANGE', prefix .. 'feed:' .. id, '+', '-', 'COUNT', 1)[1]
  return { id, tonumber(c.created_at), tonumber(c.updated_at or c.created_at * 1000), c.metadata, tonumber(c.read or -1),
    tonumber(c.news or -1), last and tonumber(string.match(last[1], '^%d+')) or -1, last and last[2][2] or '', running }
end

-- Returns the entries of a feed from a sequence number on: {{number, event}...}, at most `limit`.
local function events_of(prefix, id, first, limit)
  local found = redis.call('XRANGE', prefix .. 'feed:' .. id, first .. '-1', '+', 'COUNT', limit)
  for index, entry in ipairs(found) do
    found[index] = { tonumber(string.match(entry[1], '^%d+')), entry[2][2] }
  end
  return found
end
