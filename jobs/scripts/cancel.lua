#!lua
-- Cancels a job: at once if it is queued, else by asking its worker.
-- KEYS  job_key, log_key, channel, cancels_channel
-- ARGV  prefix, id, expected (length), max_bytes (that a notification carries), retention_ms, entries...
-- Returns {"cancelled"} · {"asked"} · {"ended"} · {"gone"} · {"diverged", length}: read the log again
-- May be repeated: an ended job stays as it is, and asking the worker twice has the same effect as once.
-- @include now fields hook notify push keep tenant_of book close
expected = tonumber(expected)
local job = fields(job_key, 'status', 'owner', 'account', 'day', 'tokens', 'money', 'attempt', 'key', 'hook')
if not job.status then return { 'gone' } end
if job.status == 'running' then
  redis.call('HSET', job_key, 'cancel', 1)
  redis.call('PUBLISH', cancels_channel, id)
  return { 'asked' }
end
if job.status ~= 'queued' then return { 'ended' } end

local length, found = push(log_key, expected, entries)
if not length then return { 'diverged', found } end
local time, tenant = now(), tenant_of(job.owner)
redis.call('HSET', job_key, 'status', 'cancelled', 'ended', time)
keep(job_key, log_key, job.key, retention_ms)
book(prefix, id, job, tenant, -1, -1)
close(prefix, id, tenant) -- the claim that reaches its entry in the waiting list drops it
redis.call('ZREM', prefix .. 'delayed', id)
hook(prefix, id, 'cancelled', time, job.hook)
notify(channel, expected, entries, tonumber(max_bytes))
return { 'cancelled' }
