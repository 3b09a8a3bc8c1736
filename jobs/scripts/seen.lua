#!lua flags=allow-oom
-- Records that a client has received a whole response. An unstored response expires `grace_ms` later. The pushes of the
-- response are dropped, and so is a webhook that is sent only for unseen responses, unless a worker has tried to send
-- it already.
-- KEYS  job_key, log_key, hook_key
-- ARGV  prefix, id, grace_ms
-- Returns 1 if the response exists and has ended, else 0
-- May be repeated: the first time remains recorded, a TTL is only shortened, and a dropped delivery stays dropped.
-- @include now fields end_delivery drop_pushes count_delivery keep
local job = fields(job_key, 'status', 'unstored', 'seen', 'key', 'steers', 'push')
if not job.status or job.status == 'queued' or job.status == 'running' then return 0 end
if not job.seen then redis.call('HSET', job_key, 'seen', now()) end
if job.unstored then keep(job_key, log_key, job.key, job.steers, grace_ms, 'LT') end
local h = redis.call('HMGET', hook_key, 'unseen', 'tries')
if h[1] == '1' and h[2] == '0' then end_delivery(prefix, 'hook', id, 'seen') end
if job.push and drop_pushes(prefix, id) then count_delivery(prefix, 'push', 'seen') end
return 1
