#!lua
-- Cancels a job: at once where it waits, by asking its worker where it runs.
-- KEYS  job, log, bell, cancels
-- ARGV  prefix, id, expected length, most bytes a bell carries, retention ms, entry...
-- Returns {"cancelled"} · {"asked"} · {"ended"} · {"gone"} · {"diverged", length}: read it again
-- May be repeated: what has ended stays as it is, and asking twice is asking.
local prefix, id, expected, frames = ARGV[1], ARGV[2], tonumber(ARGV[3]), rest(6)
local job = fields(KEYS[1], 'status', 'owner', 'day', 'tokens', 'money', 'attempt', 'key', 'hook')
if not job.status then return { 'gone' } end
if job.status == 'running' then
  redis.call('HSET', KEYS[1], 'cancel', 1)
  redis.call('PUBLISH', KEYS[4], id)
  return { 'asked' }
end
if job.status ~= 'queued' then return { 'ended' } end

local length, found = push(KEYS[2], expected, frames)
if not length then return { 'diverged', found } end
local time, tenant = now(), tenant_of(job.owner)
redis.call('HSET', KEYS[1], 'status', 'cancelled', 'ended', time)
keep(KEYS[1], KEYS[2], job.key, ARGV[5])
book(prefix, id, job, tenant, -1, -1)
close(prefix, id, tenant) -- its entry in the ready list goes when a claim meets it
redis.call('ZREM', prefix .. 'delayed', id)
hook(prefix, id, 'cancelled', time, job.hook)
ring(KEYS[3], expected, frames, tonumber(ARGV[4]))
return { 'cancelled' }
