#!lua flags=allow-oom
-- Deletes a response, ended or not; a worker that still writes it is told that it is gone.
-- KEYS  job, log, bell, cancels
-- ARGV  prefix, id
-- Returns 1 if there was one
-- May be repeated: there is nothing left to delete.
local existed = redis.call('EXISTS', KEYS[1])
local key = redis.call('HGET', KEYS[1], 'key')
if key then redis.call('DEL', key) end
redis.call('ZREM', ARGV[1] .. 'hooks', ARGV[2])
redis.call('LREM', ARGV[1] .. 'dead', 0, ARGV[2])
close(ARGV[1], ARGV[2]) -- its entry in the ready list goes when a claim meets it
redis.call('DEL', KEYS[1], KEYS[2], ARGV[1] .. 'hook:' .. ARGV[2])
redis.call('PUBLISH', KEYS[4], ARGV[2])
redis.call('PUBLISH', KEYS[3], cmsgpack.pack({ 'gone' }))
return existed
