#!lua
-- Accepts a job: its record, its first log entries and its place in the queue, all or nothing.
-- KEYS  job, log, idempotency key (the job again where there is none)
-- ARGV  prefix, id, owner, job, fingerprint ("" where there is no key), ttl ms, inspect ms,
--       max wait ms, max waiting, fail on worker death (0/1), lane, not to be stored (0/1),
--       ms that a webhook of its end waits ("": there is none), tokens (estimated), entry...
-- Returns {"accepted", id, number} · {"same", id} · {"reused", id} · {"full", waiting}
-- May be repeated: the id is the caller's own, and a job that exists is not written again.
local prefix, id, owner, fingerprint, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[5], ARGV[6]

local number = redis.call('HGET', KEYS[1], 'number')
if number then return { 'accepted', id, tonumber(number) } end

local first, word = known(prefix, KEYS[3], fingerprint)
if first then return { word, first } end

local waiting = redis.call('ZCARD', prefix .. 'open') - redis.call('ZCARD', prefix .. 'leases')
if waiting >= tonumber(ARGV[9]) then return { 'full', waiting } end

local time = now()
redis.call('HSET', KEYS[1], 'status', 'queued', 'owner', owner, 'job', ARGV[4], 'attempt', 0,
  'strikes', 0, 'submitted', time, 'until', time + ARGV[8], 'fail_on_death', ARGV[10], 'tokens', ARGV[14])
if ARGV[11] ~= '' then redis.call('HSET', KEYS[1], 'lane', ARGV[11]) end
if ARGV[13] ~= '' then redis.call('HSET', KEYS[1], 'hook', ARGV[13]) end
redis.call('PEXPIRE', KEYS[1], ttl)
mark(KEYS[1], KEYS[3], ARGV[12])
push(KEYS[2], 0, rest(15))
redis.call('PEXPIRE', KEYS[2], ttl)
if fingerprint ~= '' then redis.call('SET', KEYS[3], id .. ' ' .. fingerprint, 'PX', ttl) end
redis.call('ZADD', prefix .. 'open', time + ARGV[7], id)
redis.call('PEXPIRE', prefix .. 'open', STRUCTURE_TTL)
redis.call('PEXPIRE', prefix .. 'tenant:' .. tenant_of(owner), TENANT_TTL)
return { 'accepted', id, enqueue(prefix, owner, id, false) }
