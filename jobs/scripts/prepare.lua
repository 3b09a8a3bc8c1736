#!lua
-- Keeps a request that asks for no answer: its record and its whole log, and no place in the queue.
-- KEYS  job, log, idempotency key (the job again where there is none)
-- ARGV  prefix, id, owner, job, fingerprints ("" where there is no key), retention ms,
--       not to be stored (0/1), entry...
-- Returns {"accepted", id, 0} · {"same", id} · {"reused", id}
-- May be repeated: the id is the caller's own, and a job that exists is not written again.
local prefix, id, fingerprint, time = ARGV[1], ARGV[2], ARGV[5], now()
if redis.call('EXISTS', KEYS[1]) == 1 then return { 'accepted', id, 0 } end
local first, word = known(prefix, KEYS[3], fingerprint)
if first then return { word, first } end

redis.call('HSET', KEYS[1], unpack(given({ 'status', 'completed', 'owner', ARGV[3], 'job', ARGV[4],
  'attempt', 0, 'strikes', 0, 'submitted', time, 'ended', time, 'unstored', ARGV[7] == '1' and 1 or '',
  'key', fingerprint ~= '' and KEYS[3] or '' })))
push(KEYS[2], 0, rest(8))
remember(KEYS[3], id, fingerprint, ARGV[6])
keep(KEYS[1], KEYS[2], nil, ARGV[6])
return { 'accepted', id, 0 }
