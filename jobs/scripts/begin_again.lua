#!lua
-- Removes the checkpoint of a running job, and counts another attempt, because the model is called again.
-- KEYS  job_key
-- ARGV  claim
-- Returns {"ok", attempt} · {"gone"} · {"fenced"}
-- May be repeated: without a checkpoint, the script counts no attempt.
-- @include fields
local job = fields(job_key, 'status', 'claim', 'attempt', 'checkpoint')
if not job.status then return { 'gone' } end
if job.status ~= 'running' or job.claim ~= claim then return { 'fenced' } end
local attempt = tonumber(job.attempt or 0)
if not job.checkpoint then return { 'ok', attempt } end
redis.call('HDEL', job_key, 'checkpoint')
redis.call('HSET', job_key, 'attempt', attempt + 1)
return { 'ok', attempt + 1 }
