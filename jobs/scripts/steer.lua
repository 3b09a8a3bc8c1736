#!lua
-- Stores a steer of an unfinished response. The server notifies the response's worker after it has acknowledged the
-- steer, so that the client receives the acknowledgement first.
-- KEYS  job_key, steers_key
-- ARGV  prefix, key (digest of the idempotency key), fingerprints, entry (the steer), most (number of steers),
--       most_bytes, tenant_waiting, tenant_requests, tenant_tokens, tenant_money, tenant_input_tokens,
--       subject_running, subject_requests, subject_tokens, subject_money, tenant_waiting_bytes
-- Returns {"accepted", number} · {"same", number} · {"reused", number} · {"gone"} · {"ended", status} · {"full"} ·
--         {"limited", what, limit, ms to wait}
-- The steers of a response are a hash: each steer by its number from 0 on, the number and the fingerprint of each
-- idempotency key, and the sum of the steers' bytes. The first steer of a response counts as one request of its tenant,
-- because the response will have a successor.
-- May be repeated: the idempotency key finds the steer that the first call stored.
-- @include now fields tenant_of admit
local number, print = string.match(redis.call('HGET', steers_key, 'key:' .. key) or '', '^(%d+) (%S+)$')
if number then
  local same = string.find(',' .. fingerprints .. ',', ',' .. print .. ',', 1, true)
  return { same and 'same' or 'reused', tonumber(number) }
end
local job = fields(job_key, 'status', 'owner', 'account', 'steers', 'tokens', 'money', 'cancel')
if not job.status then return { 'gone' } end
if (job.status ~= 'queued' and job.status ~= 'running') or job.cancel then return { 'ended', job.status } end
number = tonumber(job.steers or 0)
local bytes = (redis.call('HGET', steers_key, 'bytes') or 0) + #entry
if number >= tonumber(most) or bytes > tonumber(most_bytes) then return { 'full' } end
if number == 0 then
  local refusal = admit(prefix, tenant_of(job.owner), job.account or '', now(), tonumber(job.tokens or 0), tonumber(job.money or 0), 0, nil,
    { tenant_waiting, tenant_requests, tenant_tokens, tenant_money, tenant_input_tokens,
      subject_running, subject_requests, subject_tokens, subject_money, tenant_waiting_bytes })
  if refusal then return refusal end
end
redis.call('HSET', steers_key, number, entry, 'key:' .. key, number .. ' ' .. string.match(fingerprints, '^[^,]+'), 'bytes', bytes)
redis.call('PEXPIRE', steers_key, redis.call('PTTL', job_key))
redis.call('HSET', job_key, 'steers', number + 1)
return { 'accepted', number }
