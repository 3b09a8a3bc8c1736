#!lua flags=allow-oom
-- Gives a running job back at once, to the front of the queue, without a strike against it.
-- KEYS  job, bell
-- ARGV  prefix, id, claim, reason
-- Returns {"ok"} · {"gone"} · {"fenced"}
-- May be repeated: the claim is remembered, so the second call sees that the first one worked.
local prefix, id, claim = ARGV[1], ARGV[2], ARGV[3]
local f = redis.call('HMGET', KEYS[1], 'status', 'claim', 'owner')
if not f[1] then return { 'gone' } end
if f[2] == 'was ' .. claim then return { 'ok' } end
if f[1] ~= 'running' or f[2] ~= claim then return { 'fenced' } end

redis.call('HSET', KEYS[1], 'status', 'queued', 'claim', 'was ' .. claim, 'reason', ARGV[4])
unlease(prefix, id)
ring_queued(KEYS[2], enqueue(prefix, f[3], id, true), 0, ARGV[4])
return { 'ok' }
