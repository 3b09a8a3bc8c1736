#!lua flags=allow-oom
-- Wakes another idle worker, because the worker that was woken for a job has no room for it.
-- KEYS  queues_key
-- ARGV  prefix
-- Returns nothing
-- May be repeated: a worker that is woken without need claims nothing.
-- @include wake
if redis.call('EXISTS', queues_key) == 1 then wake(prefix) end
