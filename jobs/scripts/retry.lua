#!lua
-- Schedules another attempt of a running job after a delay, and counts a failure.
-- KEYS  job_key, channel
-- ARGV  prefix, id, claim, delay_ms, reason, keeps_checkpoint (0/1), http_status (of the endpoint's reply; "": none)
-- Returns {"ok"} · {"gone"} · {"fenced"}
-- May be repeated: the job records the claim that failed, so a second call finds that the first call succeeded.
-- @include STRUCTURE_TTL now fields with_step with_http_error notify_queued tenant_of unlease
local job = fields(job_key, 'status', 'claim', 'cancel', 'owner', 'failures', 'steps')
if not job.status then return { 'gone' } end
if job.status == 'queued' and job.claim == 'was ' .. claim then return { 'ok' } end
if job.status ~= 'running' or job.claim ~= claim then return { 'fenced' } end

-- If a client has requested the job's cancellation, the retry is due at once, so that a worker can end the job.
local delay, time = job.cancel and 0 or tonumber(delay_ms), now()
local steps = with_http_error(job.steps, time, http_status)
redis.call('HSET', job_key, 'status', 'queued', 'claim', 'was ' .. claim, 'reason', reason,
  'failures', (job.failures or 0) + 1, 'delay', delay, 'requeued', time,
  'steps', with_step(steps, 'delayed', time, delay, reason))
if keeps_checkpoint == '0' then redis.call('HDEL', job_key, 'checkpoint') end
unlease(prefix, tenant_of(job.owner), id)
redis.call('ZADD', prefix .. 'delayed', time + delay, id)
redis.call('PEXPIRE', prefix .. 'delayed', STRUCTURE_TTL)
notify_queued(channel, 0, delay, reason)
return { 'ok' }
