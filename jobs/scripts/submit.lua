#!lua
-- Accepts a job: its record, its first log entries and its place in the queue, all or nothing.
-- KEYS  job, log, idempotency key (the job again where there is none)
-- ARGV  prefix, id, owner, job, fingerprints ("" where there is no key), ttl ms, inspect ms,
--       max wait ms, max waiting, fail on worker death (0/1), lane, not to be stored (0/1),
--       ms that a webhook of its end waits ("": there is none), tokens and money (millionths) that it
--       may take, tokens of its input, what a tenant may where its settings say nothing: waiting,
--       requests a minute, tokens a day, money a day, tokens of an input (0: no limit); ms
--       after which nobody's following it cancels it ("": it goes on), entry...
-- Returns {"accepted", id, number, requests a minute, left, tokens a day, left} · {"same", id} ·
--         {"reused", id} · {"full", waiting} · {"limited", what, limit, ms to wait}
-- May be repeated: the id is the caller's own, and a job that exists is not written again.
local prefix, id, owner, fingerprint, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[5], ARGV[6]

local number = redis.call('HGET', KEYS[1], 'number')
if number then return { 'accepted', id, tonumber(number), 0, 0, 0, 0 } end

local first, word = known(prefix, KEYS[3], fingerprint)
if first then return { word, first } end

local waiting = redis.call('ZCARD', prefix .. 'open') - redis.call('ZCARD', prefix .. 'leases')
if waiting >= tonumber(ARGV[9]) then return { 'full', waiting } end

local time, tenant = now(), tenant_of(owner)
local refusal, left = admit(prefix, tenant, time, tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16]),
  { ARGV[17], ARGV[18], ARGV[19], ARGV[20], ARGV[21] })
if refusal then return refusal end

redis.call('HSET', KEYS[1], 'status', 'queued', 'owner', owner, 'job', ARGV[4], 'attempt', 0,
  'strikes', 0, 'submitted', time, 'until', time + ARGV[8], 'fail_on_death', ARGV[10], 'tokens', ARGV[14])
if ARGV[11] ~= '' then redis.call('HSET', KEYS[1], 'lane', ARGV[11]) end
if ARGV[13] ~= '' then redis.call('HSET', KEYS[1], 'hook', ARGV[13]) end
redis.call('PEXPIRE', KEYS[1], ttl)
mark(KEYS[1], KEYS[3], ARGV[12])
push(KEYS[2], 0, rest(23))
redis.call('PEXPIRE', KEYS[2], ttl)
remember(KEYS[3], id, fingerprint, ttl)
redis.call('ZADD', prefix .. 'open', time + ARGV[7], id)
redis.call('PEXPIRE', prefix .. 'open', STRUCTURE_TTL)
redis.call('PEXPIRE', prefix .. 'tenant:' .. tenant, TENANT_TTL)
reserve(prefix, tenant, id, time, ARGV[14], ARGV[15], ttl)
if ARGV[22] ~= '' then
  redis.call('ZADD', prefix .. 'followed', time + ARGV[22], id)
  redis.call('PEXPIRE', prefix .. 'followed', STRUCTURE_TTL)
end
return { 'accepted', id, enqueue(prefix, owner, id, false), unpack(left) }
