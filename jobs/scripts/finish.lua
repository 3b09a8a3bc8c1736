#!lua
-- Appends the last entries and ends the job in the same breath: one terminal event, and it is last.
-- KEYS  job, log, bell
-- ARGV  prefix, id, claim, expected length, most bytes a bell carries, status, retention ms,
--       bury (0/1), tokens and money (millionths) that it took (-1: nobody knows), entry...
-- Returns {"ok", length} · {"gone"} · {"fenced"} · {"diverged", length}
-- May be repeated: the claim that finished and the same tail mean that this was it.
local prefix, id, claim, expected, frames = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), rest(11)
local job = fields(KEYS[1], 'status', 'claim', 'sealed', 'owner', 'lane', 'charged', 'turn', 'day', 'tokens',
  'money', 'attempt', 'key', 'hook')
if not job.status then return { 'gone' } end
local ended = job.status ~= 'running'
if job.claim ~= claim or (ended and job.status ~= ARGV[6]) then return { 'fenced' } end
if ended then
  -- Nothing follows the last event: what has ended can only be found to have ended in this very way.
  local had = job.sealed and entries_of(job.sealed) or redis.call('LLEN', KEYS[2])
  if had ~= expected + #frames then return { 'fenced' } end
  -- Only the claim that had ended it could seal it, so this was it; there is no tail to compare.
  if job.sealed then return { 'ok', had } end
end

local length, found = push(KEYS[2], expected, frames)
if not length then return { 'diverged', found } end
if found or ended then return { 'ok', length } end
local time, tenant, tokens = now(), tenant_of(job.owner), tonumber(ARGV[9])
redis.call('HSET', KEYS[1], 'status', ARGV[6], 'ended', time)
keep(KEYS[1], KEYS[2], job.key, ARGV[7])
settle(prefix, job, tenant, tokens)
book(prefix, id, job, tenant, tokens, tonumber(ARGV[10]))
close(prefix, id, tenant)
hook(prefix, id, ARGV[6], time, job.hook)
if ARGV[8] == '1' then bury(prefix, id) end
ring(KEYS[3], expected, frames, tonumber(ARGV[5]))
return { 'ok', length }
