#!lua flags=allow-oom
-- Notes that a client has the whole of a response. One that is not to be stored goes soon after; a
-- webhook that is only for what nobody has seen is dropped, unless it is on its way already.
-- KEYS  job, log, hook
-- ARGV  prefix, id, grace ms
-- Returns 1 if there is such a response and it has ended, else 0
-- May be repeated: the first time counts, a time to live is only ever shortened, and what is
-- dropped is gone.
local job = fields(KEYS[1], 'status', 'unstored', 'seen', 'key')
if not job.status or job.status == 'queued' or job.status == 'running' then return 0 end
if not job.seen then redis.call('HSET', KEYS[1], 'seen', now()) end
if job.unstored then keep(KEYS[1], KEYS[2], job.key, ARGV[3], 'LT') end
local h = redis.call('HMGET', KEYS[3], 'unseen', 'tries')
if h[1] == '1' and h[2] == '0' then end_hook(ARGV[1], ARGV[2], 'seen') end
return 1
