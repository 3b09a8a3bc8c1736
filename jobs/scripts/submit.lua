#!lua
-- Accepts a job atomically: writes its record, its first log entries and its place in the queue.
-- KEYS  job_key, log_key, idempotency_key (job_key again where there is none), channel
-- ARGV  prefix, id, owner, record, fingerprints ("" where there is no key), ttl_ms, inspect_ms,
--       max_wait_ms, max_waiting, max_waiting_bytes, fail_on_death (0/1), queue_name, unstored (0/1),
--       hook_wait_ms (delay of its webhook; "": no webhook), context_bytes (of the turns that it names),
--       tokens_field (estimate), money_field (estimate in millionths), input_tokens (estimate),
--       tenant_waiting, tenant_requests (per minute), tenant_tokens (per day), tenant_money (per day),
--       tenant_input_tokens, subject_running, subject_requests, subject_tokens, subject_money,
--       tenant_waiting_bytes (these limits of a tenant, and of each of its end users, apply if its settings
--       have none; 0: no limit), account (of the end user; "": none), orphan_ms (time without a follower
--       after which it is cancelled; "": never), max_bytes (that a notification carries), first_entry (that
--       the first claim appends; "": its worker does), entries...
-- Returns {"accepted", id, number, requests per minute, left, tokens per day, left} · {"same", id} ·
--         {"reused", id} · {"full", waiting} · {"full", bytes, "bytes"} · {"limited", what, limit, ms to wait}
-- `known` in _shared.lua decides what an idempotency key returns.
-- May be repeated: the caller has generated the id, and a job that exists is not written again.
-- The notification is for the caller, which subscribes before it submits, so that it misses no entry.
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
