#!lua flags=allow-oom
-- Notes that a client has the whole of a response. One that is not to be stored goes soon after.
-- KEYS  job, log
-- ARGV  grace ms
-- Returns 1 if there is such a response and it has ended, else 0
-- May be repeated: the first time counts, and a time to live is only ever shortened.
local f = redis.call('HMGET', KEYS[1], 'status', 'unstored', 'seen')
if not f[1] or f[1] == 'queued' or f[1] == 'running' then return 0 end
if not f[3] then redis.call('HSET', KEYS[1], 'seen', now()) end
if f[2] then keep(KEYS[1], KEYS[2], ARGV[1], 'LT') end
return 1
