#!lua
-- Cancels a job: at once where it waits, by asking its worker where it runs.
-- KEYS  job_key, log_key, channel, cancels_channel
-- ARGV  prefix, id, expected (length), max_bytes (that a notification carries), retention_ms, entries...
-- Returns {"cancelled"} · {"asked"} · {"ended"} · {"gone"} · {"diverged", length}: read it again
-- May be repeated: what has ended stays as it is, and asking twice is asking.
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
close(prefix, id, tenant) -- its entry in the waiting list goes when a claim meets it
redis.call('ZREM', prefix .. 'delayed', id)
hook(prefix, id, 'cancelled', time, job.hook)
notify(channel, expected, entries, tonumber(max_bytes))
return { 'cancelled' }
