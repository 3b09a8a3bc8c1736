#!lua
-- Appends the last entries to a log and ends the job, in one atomic step. So a log has only one terminal event,
-- which is its last event.
-- KEYS  job_key, log_key, channel
-- ARGV  prefix, id, claim, expected (length of the log), max_bytes (of the entries in a notification),
--       status, retention_ms, to_dead (0/1), tokens (actual usage; -1: unknown),
--       money (actual cost in millionths; -1: unknown), entries...
-- Returns {"ok", length} · {"gone"} · {"fenced"} · {"diverged", length}
-- May be repeated: if this claim has ended the job and the log ends with these entries, an earlier call succeeded.
-- @include now fields hook bury notify push entries_of keep tenant_of settle book close
expected = tonumber(expected)
local job = fields(job_key, 'status', 'claim', 'compacted', 'owner', 'account', 'queue_name', 'charged', 'start_tag', 'day', 'tokens',
  'money', 'attempt', 'key', 'hook')
if not job.status then return { 'gone' } end
local ended = job.status ~= 'running'
if job.claim ~= claim or (ended and job.status ~= status) then return { 'fenced' } end
if ended then
  -- Nothing is appended after the last event. So if this call is repeated, the log has exactly the length that the
  -- first call produced.
  local had = job.compacted and entries_of(job.compacted) or redis.call('LLEN', log_key)
  if had ~= expected + #entries then return { 'fenced' } end
  -- Only the claim that ended the job can compact its log, so this call must be a repetition. The entries of a
  -- compacted log cannot be compared.
  if job.compacted then return { 'ok', had } end
end

local length, found = push(log_key, expected, entries)
if not length then return { 'diverged', found } end
if found or ended then return { 'ok', length } end
local time, tenant = now(), tenant_of(job.owner)
tokens = tonumber(tokens)
redis.call('HSET', job_key, 'status', status, 'ended', time)
keep(job_key, log_key, job.key, retention_ms)
settle(prefix, job, tenant, tokens)
book(prefix, id, job, tenant, tokens, tonumber(money))
close(prefix, id, tenant)
hook(prefix, id, status, time, job.hook)
if to_dead == '1' then bury(prefix, id) end
notify(channel, expected, entries, tonumber(max_bytes))
return { 'ok', length }
