#!lua flags=allow-oom
-- Replaces the log of an ended job by compressed blocks in the job's hash, which take a tenth of the memory.
-- KEYS  job_key, log_key
-- ARGV  claim, head_length (entries at the beginning of the log), head_sha1 (of these entries),
--       counts (of the entries in each block, such as "2000,17"), blocks...
-- Returns 1 if the log is compacted, 0 if the log was not changed
-- May be repeated: the list of a compacted log no longer exists, so the script does not compact the log twice.
-- @include entries_of
local f = redis.call('HMGET', job_key, 'ended', 'claim', 'compacted')
if f[3] then return 1 end
if not f[1] or f[2] ~= claim or redis.call('LLEN', log_key) ~= entries_of(counts) then return 0 end
local head = tonumber(head_length)
local found = head > 0 and redis.call('LRANGE', log_key, 0, head - 1) or {}
if redis.sha1hex(table.concat(found)) ~= head_sha1 then return 0 end

local stored = { 'compacted', counts }
for index, block in ipairs(blocks) do stored[2 * index + 1], stored[2 * index + 2] = 'block' .. index - 1, block end
for from = 1, #stored, 1000 do redis.call('HSET', job_key, unpack(stored, from, math.min(from + 999, #stored))) end
redis.call('DEL', log_key)
return 1
