#!lua
-- Counts another attempt of a running job that had a checkpoint, because the model is called again.
-- KEYS  job_key
-- ARGV  claim, attempt (its number), keeps_checkpoint (0/1; 1: the model continues the text in the log)
-- Returns {"ok"} · {"gone"} · {"fenced"}
-- May be repeated: the number of the attempt is an argument.
-- @include now fields with_step
local job = fields(job_key, 'status', 'claim', 'attempt', 'failures', 'steps')
if not job.status then return { 'gone' } end
if job.status ~= 'running' or job.claim ~= claim then return { 'fenced' } end
local before = tonumber(job.attempt or 0)
if tonumber(attempt) > before then
  redis.call('HSET', job_key, 'steps', with_step(job.steps, 'called_again', now(), attempt))
end
redis.call('HSET', job_key, 'attempt', math.max(before, tonumber(attempt)),
  'earlier_failures', job.failures or 0)
if keeps_checkpoint == '0' then redis.call('HDEL', job_key, 'checkpoint') end
return { 'ok' }
