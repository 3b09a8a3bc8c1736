#!lua
-- Stores the items of an ended response as a turn, for the jobs that continue from the response.
-- KEYS  turn_key, job_key
-- ARGV  owner, items, ttl_ms
-- Returns 1, or 0 if the response was deleted or has expired
-- May be repeated: if the items are already stored, the script only renews their TTL.
if redis.call('EXISTS', job_key) == 0 then return 0 end
if redis.call('HSETNX', turn_key, 'items', items) == 1 then redis.call('HSET', turn_key, 'owner', owner) end
redis.call('PEXPIRE', turn_key, ttl_ms)
return 1
