#!lua
-- Stores a request without generation as completed: its record and its whole log, with no place in the queue.
-- KEYS  job_key, log_key, idempotency_key (job_key again where there is none)
-- ARGV  prefix, id, owner, record, fingerprints ("" where there is no key), retention_ms,
--       unstored (0/1), input_tokens (estimate), tenant_waiting, tenant_requests, tenant_tokens, tenant_money,
--       tenant_input_tokens, subject_running, subject_requests, subject_tokens, subject_money,
--       tenant_waiting_bytes, account (of the end user; "": none), entries...
-- Returns {"accepted", id, 0, requests per minute, left, tokens per day, left} · {"same", id} · {"reused", id} ·
--         {"limited", what, limit, ms to wait}
-- The limits are those of `submit`, except for those of waiting and running prompts: it does neither, and uses no
-- tokens.
-- May be repeated: the caller has generated the id, and a job that exists is not written again.
-- @include now without_empty push known remember keep tenant_of admit
local fingerprint, time = fingerprints, now()
if redis.call('EXISTS', job_key) == 1 then return { 'accepted', id, 0, 0, 0, 0, 0 } end
local first, word = known(prefix, idempotency_key, fingerprint)
if first then return { word, first } end

local refusal, _, left = admit(prefix, tenant_of(owner), account, time, 0, 0, tonumber(input_tokens), nil,
  { tenant_waiting, tenant_requests, tenant_tokens, tenant_money, tenant_input_tokens,
    subject_running, subject_requests, subject_tokens, subject_money, tenant_waiting_bytes })
if refusal then return refusal end

redis.call('HSET', job_key, unpack(without_empty({ 'status', 'completed', 'owner', owner, 'job', record,
  'attempt', 0, 'failures', 0, 'submitted', time, 'ended', time, 'unstored', unstored == '1' and 1 or '',
  'key', fingerprint ~= '' and idempotency_key or '' })))
push(log_key, 0, entries)
remember(idempotency_key, id, fingerprint, retention_ms)
keep(job_key, log_key, nil, retention_ms)
return { 'accepted', id, 0, unpack(left) }
