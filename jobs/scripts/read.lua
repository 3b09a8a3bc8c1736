#!lua flags=no-writes
-- Reads a consistent snapshot of one response: its owner, its state, and its log from an index on.
-- KEYS  job_key, log_key
-- ARGV  first_index, max_entries, max_bytes, min_entries (returned even if they exceed max_bytes), viewer (the
--       requesting owner, `tenant/*` for all owners of a tenant, or "" for every owner)
-- Returns {} if the response does not exist or the viewer may not see it; both cases take the same time ·
--       {status, owner, attempt, number, reason, length, {entry...}, queue_name, first, {block...}, trace}
--       From a compacted log, the script returns blocks instead of entries; `first` is the index of the first entry
--       in these blocks.
-- May be repeated: it writes nothing.
-- @include entries_of
local f = redis.call('HMGET', job_key, 'status', 'owner', 'attempt', 'number', 'reason', 'queue_name', 'compacted', 'trace')
if not f[1] then return {} end
local owner = f[2] or ''
if string.sub(viewer, -2) == '/*' then owner = string.sub(owner, 1, #viewer - 1) .. '*' end
if viewer ~= '' and owner ~= viewer then return {} end
local from, most, bytes, least = tonumber(first_index), tonumber(max_entries), tonumber(max_bytes), tonumber(min_entries)

-- Returns the block that contains the entry `from`, and further blocks until they contain `least` entries from this
-- entry on. The first result is the index of the first entry in these blocks.
local function blocks_from(compacted)
  local first, last, number, blocks = 0, 0, 0, {}
  for count in string.gmatch(compacted, '%d+') do
    last = last + count
    if last <= from then
      first = last
    elseif #blocks == 0 or last - count - from < least then
      blocks[#blocks + 1] = redis.call('HGET', job_key, 'block' .. number)
    end
    number = number + 1
  end
  return first, blocks
end

local length, kept, first, blocks = 0, {}, from, {}
if f[7] then
  length = entries_of(f[7])
  if most > 0 then first, blocks = blocks_from(f[7]) end
else
  length = redis.call('LLEN', log_key)
  local entries = most > 0 and redis.call('LRANGE', log_key, from, from + most - 1) or {}
  for index, entry in ipairs(entries) do
    bytes = bytes - #entry
    if bytes < 0 and index > least then break end
    kept[index] = entry
  end
end
return { f[1], f[2], tonumber(f[3] or 0), tonumber(f[4] or 0), f[5] or '', length, kept, f[6] or '', first, blocks, f[8] or '' }
