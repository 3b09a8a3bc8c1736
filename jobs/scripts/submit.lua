#!lua
-- Accepts a job in one atomic step: stores the job, appends the first entries of its log, and queues the job.
-- KEYS  job_key, log_key, idempotency_key (job_key if the request has no idempotency key), channel
-- ARGV  prefix, id, owner, record, fingerprints ("" without an idempotency key), ttl_ms, inspect_ms,
--       max_wait_ms, max_waiting, max_waiting_bytes, fail_on_death (0/1), queue_name, unstored (0/1),
--       hook_wait_ms (delay of the webhook; "" means no webhook), push_wait_ms (delay of the push; "" means no push),
--       context_bytes (of the turns that the job names),
--       tokens_field (estimate), money_field (estimate in millionths), input_tokens (estimate),
--       tenant_waiting, tenant_requests (per minute), tenant_tokens (per day), tenant_money (per day),
--       tenant_input_tokens, subject_running, subject_requests, subject_tokens, subject_money,
--       tenant_waiting_bytes (default limits of a tenant and, with subject_, of each of its end users; 0 means no
--       limit), account (of the end user; "" if no limits of end users apply), orphan_ms (time without a follower
--       after which the response is cancelled; "" means never), max_bytes (of the entries in a notification),
--       first_entry (that the first claim appends; "" if the worker appends it),
--       steered (id of the response whose pending steers the job contains; "" if it contains none),
--       trace (context of the request's trace; "" if there is none), entries...
-- Returns {"accepted", id, number, requests per minute, left, tokens per day, left} · {"same", id, trace} ·
--         {"reused", id, trace} · {"full", waiting} · {"full", bytes, "bytes"} · {"limited", what, limit, ms to wait} ·
--         {"taken"}: another job contains the pending steers
-- For a used idempotency key, the function `known` in _shared.lua chooses between "same" and "reused".
-- May be repeated: the caller has generated the id, so a second call finds the job and does not write it again.
-- The caller subscribes before it submits, so it receives the notification and misses no entry.
-- @include now known remember tenant_of sum_sizes admit store_job
local fingerprint, ttl = fingerprints, ttl_ms

local number = redis.call('HGET', job_key, 'number')
if number then return { 'accepted', id, tonumber(number), 0, 0, 0, 0 } end

local first, word = known(prefix, idempotency_key, fingerprint)
if first then return { word, first, redis.call('HGET', prefix .. 'job:' .. first, 'trace') or '' } end

local parent_key = steered ~= '' and prefix .. 'job:' .. steered
if parent_key and redis.call('HGET', parent_key, 'successor') ~= 'pending' then return { 'taken' } end

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

number = store_job(prefix, id, { owner = owner, tenant = tenant, record = record, time = time, queue_name = queue_name,
  tokens = tokens, money = money, accounts = accounts, max_wait_ms = max_wait_ms, ttl_ms = ttl, inspect_ms = inspect_ms,
  orphan_ms = orphan_ms, fail_on_death = fail_on_death, context_bytes = context_bytes, first_entry = first_entry, hook = hook_wait_ms, push_wait = push_wait_ms,
  unstored = unstored == '1' and 1 or '', key = fingerprint ~= '' and idempotency_key or '', trace = trace, bytes = bytes, all_bytes = all_bytes, own_bytes = own_bytes,
  open = open, entries = entries,
  max_bytes = max_bytes })
remember(idempotency_key, id, fingerprint, ttl)
if parent_key then redis.call('HSET', parent_key, 'successor', id) end
return { 'accepted', id, number, unpack(left) }
