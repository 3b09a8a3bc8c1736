#!lua
-- Accepts a job in one atomic step: stores the job, appends the first entries of its log, and queues the job.
-- KEYS  job_key, log_key, idempotency_key (job_key if the request has no idempotency key), channel
-- ARGV  prefix, id, owner, record, fingerprints ("" without an idempotency key), ttl_ms, inspect_ms,
--       max_wait_ms, max_waiting, max_waiting_bytes, fail_on_death (0/1), queue_name, unstored (0/1),
--       hook_wait_ms (delay of the webhook; "" means no webhook), context_bytes (of the turns that the job names),
--       tokens_field (estimate), money_field (estimate in millionths), input_tokens (estimate),
--       tenant_waiting, tenant_requests (per minute), tenant_tokens (per day), tenant_money (per day),
--       tenant_input_tokens, subject_running, subject_requests, subject_tokens, subject_money,
--       tenant_waiting_bytes (default limits of a tenant and, with subject_, of each of its end users; 0 means no
--       limit), account (of the end user; "" if no limits of end users apply), orphan_ms (time without a follower
--       after which the response is cancelled; "" means never), max_bytes (of the entries in a notification),
--       first_entry (that the first claim appends; "" if the worker appends it), entries...
-- Returns {"accepted", id, number, requests per minute, left, tokens per day, left} · {"same", id} ·
--         {"reused", id} · {"full", waiting} · {"full", bytes, "bytes"} · {"limited", what, limit, ms to wait}
-- For a used idempotency key, the function `known` in _shared.lua chooses between "same" and "reused".
-- May be repeated: the caller has generated the id, so a second call finds the job and does not write it again.
-- The caller subscribes before it submits, so it receives the notification and misses no entry.
-- @include STRUCTURE_TTL now without_empty notify known remember tenant_of enqueue reserve sum_sizes add_size admit
local fingerprint, ttl = fingerprints, ttl_ms

local number = redis.call('HGET', job_key, 'number')
if number then return { 'accepted', id, tonumber(number), 0, 0, 0, 0 } end

local first, word = known(prefix, idempotency_key, fingerprint)
if first then return { word, first } end

local open = redis.call('ZCARD', prefix .. 'open')
if open >= tonumber(max_waiting) then
  local waiting = open - redis.call('ZCARD', prefix .. 'leases')
  if waiting >= tonumber(max_waiting) then return { 'full', waiting } end
end
local time, tenant, tokens, money = now(), tenant_of(owner), tonumber(tokens_field), tonumber(money_field)
local bytes, all_bytes, own_bytes = #record + context_bytes, sum_sizes(prefix, tenant)
if all_bytes + bytes > tonumber(max_waiting_bytes) then return { 'full', all_bytes, 'bytes' } end

local refusal, accounts, left = admit(prefix, tenant, account, time, tokens, money, tonumber(input_tokens), own_bytes + bytes,
  { tenant_waiting, tenant_requests, tenant_tokens, tenant_money, tenant_input_tokens,
    subject_running, subject_requests, subject_tokens, subject_money, tenant_waiting_bytes })
if refusal then return refusal end

number = enqueue(prefix, tenant, queue_name, id)
redis.call('HSET', job_key, unpack(without_empty({ 'status', 'queued', 'owner', owner, 'job', record, 'attempt', 0,
  'failures', 0, 'submitted', time, 'until', time + max_wait_ms, 'fail_on_death', fail_on_death, 'tokens', tokens_field,
  'money', money_field, 'day', reserve(prefix, accounts, id, time, tokens, money, ttl), 'number', number, 'queue_name', queue_name,
  'context_bytes', context_bytes, 'account', accounts[2] or '', 'begins', first_entry, 'hook', hook_wait_ms, 'unstored', unstored == '1' and 1 or '',
  'key', fingerprint ~= '' and idempotency_key or '' })))
redis.call('PEXPIRE', job_key, ttl)
add_size(prefix, id, tenant, bytes, all_bytes, own_bytes)

redis.call('RPUSH', log_key, unpack(entries))
redis.call('PEXPIRE', log_key, ttl)
remember(idempotency_key, id, fingerprint, ttl)
redis.call('ZADD', prefix .. 'open', time + inspect_ms, id)
if open == 0 then redis.call('PEXPIRE', prefix .. 'open', STRUCTURE_TTL) end
if orphan_ms ~= '' then
  redis.call('ZADD', prefix .. 'followed', time + orphan_ms, id)
  redis.call('PEXPIRE', prefix .. 'followed', STRUCTURE_TTL)
end
notify(channel, 0, entries, tonumber(max_bytes))
return { 'accepted', id, number, unpack(left) }
