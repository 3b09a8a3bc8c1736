#!lua flags=no-writes
-- Reads one page of the items of a conversation.
-- KEYS  conversation_key
-- ARGV  prefix, id, viewer (as in `read.lua`), after (id of the item before the page; "" for the first page),
--       order ("asc" or "desc"), limit
-- Returns {} if the conversation does not exist or the viewer may not see it · {"unknown"} if the conversation never had
--         the item `after` · {"page", has more (0/1), {item...}}
-- May be repeated: it writes nothing.
-- @include fields may_see
local c = fields(conversation_key, 'owner', 'deleted')
if not c.owner or not may_see(c.owner, viewer) or c.deleted then return {} end

local CHUNK = 100 -- entries that are read at once, so that many deleted items do not cost a call each
local items, step = prefix .. 'items:' .. id, order == 'asc' and 1 or -1
local length, most, page = redis.call('LLEN', items), tonumber(limit), {}
local index = step == 1 and 0 or length - 1
if after ~= '' then
  local position = tonumber(redis.call('HGET', prefix .. 'positions:' .. id, after))
  if not position then return { 'unknown' } end
  index = (position < 0 and -1 - position or position) + step
end
while index >= 0 and index < length and #page <= most do
  local last = math.max(0, math.min(length - 1, index + step * CHUNK))
  local entries = redis.call('LRANGE', items, math.min(index, last), math.max(index, last))
  for n = 1, #entries do
    local entry = entries[step == 1 and n or #entries + 1 - n]
    if #page <= most and entry ~= '' and string.sub(entry, 1, 1) ~= '-' then page[#page + 1] = entry end
  end
  index = last + step
end
local more = #page > most
if more then page[#page] = nil end
return { 'page', more and 1 or 0, page }
