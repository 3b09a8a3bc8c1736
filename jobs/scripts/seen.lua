#!lua flags=allow-oom
-- Records that a client has received a whole response. An unstored response expires `grace_ms` later. A webhook
-- that is sent only for unseen responses is dropped, unless a worker has tried to send it already.
-- KEYS  job_key, log_key, hook_key
-- ARGV  prefix, id, grace_ms
-- Returns 1 if the response exists and has ended, else 0
-- May be repeated: the first time remains recorded, a TTL is only shortened, and a dropped webhook stays dropped.
-- @include now fields end_hook keep
local job = fields(job_key, 'status', 'unstored', 'seen', 'key', 'steers')
if not job.status or job.status == 'queued' or job.status == 'running' then return 0 end
if not job.seen then redis.call('HSET', job_key, 'seen', now()) end
if job.unstored then keep(job_key, log_key, job.key, job.steers, grace_ms, 'LT') end
local h = redis.call('HMGET', hook_key, 'unseen', 'tries')
if h[1] == '1' and h[2] == '0' then end_hook(prefix, id, 'seen') end
return 1
