#!lua flags=allow-oom
-- Gives a running job back: returns the job to the front of its queue at once, without counting a failure.
-- KEYS  job_key, channel
-- ARGV  prefix, id, claim, reason
-- Returns {"ok"} · {"gone"} · {"fenced"}
-- May be repeated: the job records the claim that gave it back, so a second call finds that the first succeeded.
-- @include now fields with_step notify_queued tenant_of enqueue_first unlease
local job = fields(job_key, 'status', 'claim', 'owner', 'queue_name', 'submitted', 'steps')
if not job.status then return { 'gone' } end
if job.claim == 'was ' .. claim then return { 'ok' } end
if job.status ~= 'running' or job.claim ~= claim then return { 'fenced' } end

local tenant = tenant_of(job.owner)
unlease(prefix, tenant, id)
local number = enqueue_first(prefix, tenant, job.queue_name or '', id, job.submitted)
redis.call('HSET', job_key, 'status', 'queued', 'claim', 'was ' .. claim, 'reason', reason, 'number', number,
  'requeued', now(), 'steps', with_step(job.steps, 'given_back', now(), reason))
notify_queued(channel, number, 0, reason)
return { 'ok' }
