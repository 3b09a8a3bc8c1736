#!lua
-- Cancels a queued job at once, or asks the worker of a running job to cancel it. A queued job whose answer the
-- model's endpoint still generates in the background is also left to a worker, which ends that answer first.
-- KEYS  job_key, log_key, channel, cancels_channel
-- ARGV  prefix, id, expected (length of the log), max_bytes (of the entries in a notification), retention_ms,
--       entries...
-- Returns {"cancelled"} · {"asked"} · {"ended"} · {"gone"} · {"diverged", length}: read the log again
-- May be repeated: an ended job is not changed, and a second request to the worker has no further effect.
-- @include now fields with_step queue_deliveries notify push keep tenant_of end_wait book close
expected = tonumber(expected)
local job = fields(job_key, 'status', 'owner', 'account', 'day', 'tokens', 'money', 'attempt', 'queue_name', 'key', 'hook', 'steers', 'cancel',
  'steps', 'trace', 'checkpoint')
if not job.status then return { 'gone' } end
local found, checkpoint = pcall(cmsgpack.unpack, job.checkpoint or '')
local upstream_id = found and type(checkpoint) == 'table' and checkpoint[2] or ''
if job.status == 'running' or (job.status == 'queued' and upstream_id ~= '') then
  if not job.cancel then redis.call('HSET', job_key, 'cancel', 1, 'steps', with_step(job.steps, 'cancel_asked', now())) end
  redis.call('ZADD', prefix .. 'delayed', 'XX', now(), id)
  redis.call('SPUBLISH', cancels_channel, id)
  return { 'asked' }
end
if job.status ~= 'queued' then return { 'ended' } end

local length, actual = push(log_key, expected, entries)
if not length then return { 'diverged', actual } end
local time, tenant = now(), tenant_of(job.owner)
redis.call('HSET', job_key, 'status', 'cancelled', 'ended', time)
keep(job_key, log_key, job.key, job.steers, retention_ms)
book(prefix, id, job, tenant, -1, -1)
close(prefix, id, tenant)
end_wait(prefix, job.queue_name or '', id) -- a later claim removes the id from the waiting list
redis.call('ZREM', prefix .. 'delayed', id)
queue_deliveries(prefix, id, job, 'cancelled', time)
notify(channel, expected, entries, tonumber(max_bytes))
return { 'cancelled' }
