#!lua flags=no-writes
-- Reads the state of a conversation, and the events of its feed from a sequence number on, with the items that they add.
-- KEYS  conversation_key
-- ARGV  prefix, id, first (number of the first event; -1 to read no events), knows_first (1 if the caller knows the first
--       event, whose items are then left out; else 0), limit (of events), max_bytes (of items; the first event that the
--       caller does not know may have more)
-- Returns {} if the conversation does not exist · {owner, state as in `state_of`, 1 if events about the log are missing
--         (else 0), {{number, event, {entry of the log...}}...}}
-- May be repeated: it writes nothing.
-- @include fields state_of events_of
local c, state = fields(conversation_key, 'owner', 'fed'), state_of(prefix, id)
if not state then return {} end

local items, events, bytes = prefix .. 'items:' .. id, {}, 0
for _, found in ipairs(tonumber(first) >= 0 and events_of(prefix, id, first, limit) or {}) do
  local event, entries = cmsgpack.unpack(found[2]), {}
  local is_known = knows_first == '1' and #events == 0
  if event[2] == 'items' and not is_known then entries = redis.call('LRANGE', items, event[3], event[4] - 1) end
  for _, entry in ipairs(entries) do bytes = bytes + #entry end
  if #events > tonumber(knows_first) and bytes > tonumber(max_bytes) then break end
  found[3] = entries
  events[#events + 1] = found
end
local missing = tonumber(c.fed or 0) < redis.call('LLEN', items)
return { c.owner, state, missing and 1 or 0, events }
