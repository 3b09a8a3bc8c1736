#!lua flags=no-writes
-- A consistent look at one response: who owns it, how it stands, and its log from an index on.
-- KEYS  job, log
-- ARGV  from, most entries, most bytes, entries that are given however large they are, viewer: the
--       owner who asks, `tenant/*` for all owners of a tenant, or "" for us
-- Returns {} where there is none that the viewer may see, with no more to read · {status, owner, attempt, number, reason, length, {entry...}, lane}
-- May be repeated: it writes nothing.
local f = redis.call('HMGET', KEYS[1], 'status', 'owner', 'attempt', 'number', 'reason', 'lane')
if not f[1] then return {} end
local viewer, owner = ARGV[5], f[2] or ''
if string.sub(viewer, -2) == '/*' then owner = string.sub(owner, 1, #viewer - 1) .. '*' end
if viewer ~= '' and owner ~= viewer then return {} end
local from, most, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local entries = most > 0 and redis.call('LRANGE', KEYS[2], from, from + most - 1) or {}
local kept = {}
for index, entry in ipairs(entries) do
  bytes = bytes - #entry
  if bytes < 0 and index > tonumber(ARGV[4]) then break end
  kept[index] = entry
end
return { f[1], f[2], tonumber(f[3] or 0), tonumber(f[4] or 0), f[5] or '', redis.call('LLEN', KEYS[2]), kept, f[6] or '' }
