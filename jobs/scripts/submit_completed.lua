#!lua
-- Stores a response that is completed without calling a model: its job and its whole log. It is never queued.
-- KEYS  job_key, log_key, idempotency_key (job_key if the request has no idempotency key)
-- ARGV  prefix, id, owner, record, fingerprints ("" without an idempotency key), retention_ms,
--       unstored (0/1), input_tokens (estimate), tenant_waiting, tenant_requests, tenant_tokens, tenant_money,
--       tenant_input_tokens, subject_running, subject_requests, subject_tokens, subject_money,
--       tenant_waiting_bytes, account (of the end user; "" if no limits of end users apply),
--       trace (context of the request's trace; "" if there is none), entries...
-- Returns {"accepted", id, 0, requests per minute, left, tokens per day, left} · {"same", id, trace} ·
--         {"reused", id, trace} ·
--         {"limited", what, limit, ms to wait}
-- The limits of `submit` apply, except the limits of waiting and running prompts, because the response neither waits
-- nor runs. It uses no tokens.
-- May be repeated: the caller has generated the id, so a second call finds the job and does not write it again.
-- @include now without_empty push known remember keep tenant_of admit
local fingerprint, time = fingerprints, now()
if redis.call('EXISTS', job_key) == 1 then return { 'accepted', id, 0, 0, 0, 0, 0 } end
local first, word = known(prefix, idempotency_key, fingerprint)
if first then return { word, first, redis.call('HGET', prefix .. 'job:' .. first, 'trace') or '' } end

local refusal, _, left = admit(prefix, tenant_of(owner), account, time, 0, 0, tonumber(input_tokens), nil,
  { tenant_waiting, tenant_requests, tenant_tokens, tenant_money, tenant_input_tokens,
    subject_running, subject_requests, subject_tokens, subject_money, tenant_waiting_bytes })
if refusal then return refusal end

redis.call('HSET', job_key, unpack(without_empty({ 'status', 'completed', 'owner', owner, 'job', record,
  'attempt', 0, 'failures', 0, 'submitted', time, 'ended', time, 'unstored', unstored == '1' and 1 or '',
  'key', fingerprint ~= '' and idempotency_key or '', 'trace', trace })))
push(log_key, 0, entries)
remember(idempotency_key, id, fingerprint, retention_ms)
keep(job_key, log_key, nil, nil, retention_ms)
return { 'accepted', id, 0, unpack(left) }
