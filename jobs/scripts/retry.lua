#!lua
-- Lets a running job wait for another attempt, and counts a strike against it.
-- KEYS  job, bell
-- ARGV  prefix, id, claim, delay ms, reason
-- Returns {"ok"} · {"gone"} · {"fenced"}
-- May be repeated: the claim is remembered, so the second call sees that the first one worked.
local prefix, id, claim = ARGV[1], ARGV[2], ARGV[3]
local job = fields(KEYS[1], 'status', 'claim', 'cancel', 'owner', 'strikes')
if not job.status then return { 'gone' } end
if job.status == 'queued' and job.claim == 'was ' .. claim then return { 'ok' } end
if job.status ~= 'running' or job.claim ~= claim then return { 'fenced' } end

redis.call('HSET', KEYS[1], 'status', 'queued', 'claim', 'was ' .. claim, 'reason', ARGV[5],
  'strikes', (job.strikes or 0) + 1)
unlease(prefix, tenant_of(job.owner), id)
-- One that is to be cancelled is claimed at once, to be ended.
local delay = job.cancel and 0 or tonumber(ARGV[4])
redis.call('ZADD', prefix .. 'delayed', now() + delay, id)
redis.call('PEXPIRE', prefix .. 'delayed', STRUCTURE_TTL)
ring_queued(KEYS[2], 0, delay, ARGV[5])
return { 'ok' }
