#!lua flags=allow-oom
-- Deletes a response, ended or not; a worker that still writes it is told that it is gone.
-- KEYS  job, log, bell, cancels
-- ARGV  prefix, id
-- Returns 1 if there was one
-- May be repeated: there is nothing left to delete.
local existed = redis.call('EXISTS', KEYS[1])
local key = redis.call('HGET', KEYS[1], 'unstored')
if key and key ~= '' then redis.call('DEL', key) end
close(ARGV[1], ARGV[2])
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PUBLISH', KEYS[4], ARGV[2])
redis.call('PUBLISH', KEYS[3], cmsgpack.pack({ 'gone' }))
return existed
