#!lua flags=no-writes
-- Reads the turns of a conversation from its feed: the events about new responses and about items.
-- KEYS  conversation_key
-- ARGV  prefix, id
-- Returns {} if the conversation does not exist · {1 if events about the log are missing (else 0), {event...}}
-- May be repeated: it writes nothing.
-- @include fields events_of
local c, kept, first = fields(conversation_key, 'owner', 'deleted', 'fed'), {}, 0
if not c.owner or c.deleted then return {} end
while true do
  local events = events_of(prefix, id, first, 1000)
  for _, event in ipairs(events) do
    local kind = cmsgpack.unpack(event[2])[2]
    if kind == 'response_created' or kind == 'items' then kept[#kept + 1] = event[2] end
  end
  if #events < 1000 then break end
  first = events[1000][1] + 1
end
local missing = tonumber(c.fed or 0) < redis.call('LLEN', prefix .. 'items:' .. id)
return { missing and 1 or 0, kept }
