#!lua flags=allow-oom
-- Stores the record of a live worker or server for `ttl_ms`, even if Redis has reached maxmemory: a worker that waits
-- for memory is not dead. Removes the workers or servers whose records have expired.
-- KEYS  workers_key, record_key
-- ARGV  id, ttl_ms, max_workers, record
-- Returns the number of live workers. If the registry already has `max_workers` other workers, it does not store the
-- record.
-- May be repeated: a second call stores the same record again.
-- @include now cap
local time = now()
cap(workers_key, time + ttl_ms, 1000)
redis.call('ZREMRANGEBYSCORE', workers_key, '-inf', time)
local workers = redis.call('ZCARD', workers_key)
if not redis.call('ZSCORE', workers_key, id) and workers >= tonumber(max_workers) then return workers end
local added = redis.call('ZADD', workers_key, time + ttl_ms, id)
redis.call('PEXPIRE', workers_key, ttl_ms)
redis.call('SET', record_key, time .. ' ' .. record, 'PX', ttl_ms)
return workers + added
