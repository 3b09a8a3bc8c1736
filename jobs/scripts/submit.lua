#!lua
-- Accepts a job: its record, its first log entries and its place in the queue, all or nothing.
-- KEYS  job, log, idempotency key (the job again where there is none), bell
-- ARGV  prefix, id, owner, job, fingerprints ("" where there is no key), ttl ms, inspect ms,
--       max wait ms, max waiting, fail on worker death (0/1), lane, not to be stored (0/1),
--       ms that a webhook of its end waits ("": there is none), tokens and money (millionths) that it
--       may take, tokens of its input, what a tenant may where its settings say nothing: waiting,
--       requests a minute, tokens a day, money a day, tokens of an input (0: no limit); ms
--       after which nobody's following it cancels it ("": it goes on), most bytes a bell carries, the
--       entry with which a claim begins the first attempt ("": its worker does), entry...
-- Returns {"accepted", id, number, requests a minute, left, tokens a day, left} · {"same", id} ·
--         {"reused", id} · {"full", waiting} · {"limited", what, limit, ms to wait}
-- May be repeated: the id is the caller's own, and a job that exists is not written again.
-- The bell rings for the caller: who hears it was listening before there was anything to miss.
local prefix, id, owner, fingerprint, ttl, lane = ARGV[1], ARGV[2], ARGV[3], ARGV[5], ARGV[6], ARGV[11]

local number = redis.call('HGET', KEYS[1], 'number')
if number then return { 'accepted', id, tonumber(number), 0, 0, 0, 0 } end

local first, word = known(prefix, KEYS[3], fingerprint)
if first then return { word, first } end

local open = redis.call('ZCARD', prefix .. 'open')
if open >= tonumber(ARGV[9]) then
  local waiting = open - redis.call('ZCARD', prefix .. 'leases')
  if waiting >= tonumber(ARGV[9]) then return { 'full', waiting } end
end

local time, tenant, tokens, money = now(), tenant_of(owner), tonumber(ARGV[14]), tonumber(ARGV[15])
local refusal, left = admit(prefix, tenant, time, tokens, money, tonumber(ARGV[16]),
  { ARGV[17], ARGV[18], ARGV[19], ARGV[20], ARGV[21] })
if refusal then return refusal end

number = enqueue(prefix, tenant, lane, id)
redis.call('HSET', KEYS[1], unpack(given({ 'status', 'queued', 'owner', owner, 'job', ARGV[4], 'attempt', 0,
  'strikes', 0, 'submitted', time, 'until', time + ARGV[8], 'fail_on_death', ARGV[10], 'tokens', ARGV[14],
  'money', ARGV[15], 'day', reserve(prefix, tenant, id, time, tokens, money, ttl), 'number', number, 'lane', lane,
  'begins', ARGV[24], 'hook', ARGV[13], 'unstored', ARGV[12] == '1' and 1 or '', 'key', fingerprint ~= '' and KEYS[3] or '' })))
redis.call('PEXPIRE', KEYS[1], ttl)
local frames = rest(25)
redis.call('RPUSH', KEYS[2], unpack(frames))
redis.call('PEXPIRE', KEYS[2], ttl)
remember(KEYS[3], id, fingerprint, ttl)
redis.call('ZADD', prefix .. 'open', time + ARGV[7], id)
if open == 0 then redis.call('PEXPIRE', prefix .. 'open', STRUCTURE_TTL) end
if ARGV[22] ~= '' then
  redis.call('ZADD', prefix .. 'followed', time + ARGV[22], id)
  redis.call('PEXPIRE', prefix .. 'followed', STRUCTURE_TTL)
end
ring(KEYS[4], 0, frames, tonumber(ARGV[23]))
return { 'accepted', id, number, unpack(left) }
