#!lua flags=allow-oom
-- Keeps the log of a job that has ended as blocks in the job, in a tenth of the room.
-- KEYS  job, log
-- ARGV  claim, length of the head, SHA-1 of the head's entries, "entries of block 0,of block 1,...",
--       block...
-- Returns 1 if the log is sealed
-- May be repeated: what is sealed has no list left, so it is not sealed twice.
local f = redis.call('HMGET', KEYS[1], 'ended', 'claim', 'sealed')
if f[3] then return 1 end
if not f[1] or f[2] ~= ARGV[1] or redis.call('LLEN', KEYS[2]) ~= entries_of(ARGV[4]) then return 0 end
local head = tonumber(ARGV[2])
local found = head > 0 and redis.call('LRANGE', KEYS[2], 0, head - 1) or {}
if redis.sha1hex(table.concat(found)) ~= ARGV[3] then return 0 end

for index = 5, #ARGV do redis.call('HSET', KEYS[1], 'block' .. index - 5, ARGV[index]) end
redis.call('HSET', KEYS[1], 'sealed', ARGV[4])
redis.call('DEL', KEYS[2])
return 1
