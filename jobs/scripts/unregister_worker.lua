#!lua flags=allow-oom
-- Removes the record of a worker or a server that ends.
-- KEYS  workers_key, record_key
-- ARGV  id
-- Returns 1 if the registry had the worker, else 0
-- May be repeated: a second call finds no record.
redis.call('DEL', record_key)
return redis.call('ZREM', workers_key, id)
