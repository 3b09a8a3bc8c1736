#!lua flags=no-writes
-- Reads a consistent snapshot of a conversation, and its log from one index up to another.
-- KEYS  conversation_key
-- ARGV  prefix, id, viewer (as in `read.lua`), holder (a response that may read a deleted conversation and deleted items
--       while it is pending; "" if there is none), item (id of the only item to return; "" to return a range), first,
--       stop (index after the last entry; -1 means the end of the log)
-- Returns {} if the conversation does not exist or the viewer may not see it ·
--         {owner, created_at, metadata, bytes, length, {id, age_ms, input appended (0/1)...} of the pending responses,
--         {entry...}}
-- May be repeated: it writes nothing.
-- @include now fields may_see pending_of
local c = fields(conversation_key, 'owner', 'created_at', 'metadata', 'bytes', 'deleted')
local holds = holder ~= '' and redis.call('HEXISTS', prefix .. 'pending:' .. id, holder) == 1
if not c.owner or not may_see(c.owner, viewer) or (c.deleted and not holds) then return {} end

local items = prefix .. 'items:' .. id
local length = redis.call('LLEN', items)
first, stop = tonumber(first), tonumber(stop)
if stop < 0 then stop = length end
if item ~= '' then
  first = tonumber(redis.call('HGET', prefix .. 'positions:' .. id, item) or -1)
  stop = first < 0 and first or first + 1
end
local entries = stop > first and redis.call('LRANGE', items, first, stop - 1) or {}
if holds then
  for index, entry in ipairs(entries) do
    if entry == '' then entries[index] = redis.call('HGET', prefix .. 'removed:' .. id, first + index - 1) or '' end
  end
end
return { c.owner, tonumber(c.created_at), c.metadata, tonumber(c.bytes), length, pending_of(prefix, id, now()), entries }
