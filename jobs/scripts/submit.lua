#!lua
-- Accepts a job: its record, its first log entries and its place in the queue, all or nothing.
-- KEYS  job_key, log_key, idempotency_key (job_key again where there is none), channel
-- ARGV  prefix, id, owner, record, fingerprints ("" where there is no key), ttl_ms, inspect_ms,
--       max_wait_ms, max_waiting, max_waiting_bytes, fail_on_death (0/1), queue_name, unstored (0/1), hook_wait_ms (of its
--       webhook; "": there is none), context_bytes (of the turns that it names), tokens_field (that it
--       may take), money_field (millionths), input_tokens, tenant_waiting, tenant_requests (a minute),
--       tenant_tokens (a day), tenant_money (a day), tenant_input_tokens, subject_running,
--       subject_requests, subject_tokens, subject_money, tenant_waiting_bytes (limits of a tenant, and of each of its end
--       users, where its settings say nothing; 0: none), account (of the end user; "": there is none),
--       orphan_ms (without a follower until it is cancelled; "": never), max_bytes (that a
--       notification carries), first_entry (that the first claim appends; "": its worker does),
--       entries...
-- Returns {"accepted", id, number, requests a minute, left, tokens a day, left} · {"same", id} ·
--         {"reused", id} · {"full", waiting} · {"full", bytes, "bytes"} · {"limited", what, limit, ms to wait}
-- The rule of idempotency keys is `known` in _shared.lua.
-- May be repeated: the id is the caller's own, and a job that exists is not written again.
-- The notification is for the caller: it subscribed before the first entry, so it misses none.
-- @include STRUCTURE_TTL now without_empty notify known remember tenant_of enqueue reserve sizes_of add_size admit
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
local bytes, waiting_bytes = #record + context_bytes, tonumber(redis.call('HGET', sizes_of(prefix), '~') or 0)
if waiting_bytes + bytes > tonumber(max_waiting_bytes) then return { 'full', waiting_bytes, 'bytes' } end

local time, tenant, tokens, money = now(), tenant_of(owner), tonumber(tokens_field), tonumber(money_field)
local refusal, accounts, left = admit(prefix, tenant, account, time, tokens, money, tonumber(input_tokens), bytes,
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
add_size(prefix, id, tenant, bytes)

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
