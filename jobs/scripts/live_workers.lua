#!lua flags=no-writes
-- Returns the ids of all live workers or servers.
-- KEYS  workers_key
-- ARGV  most
-- Returns {now in ms, {id...}}
-- May be repeated: it writes nothing.
-- @include now
local time = now()
return { time, (redis.call('ZRANGEBYSCORE', workers_key, '(' .. time, '+inf', 'LIMIT', 0, most)) }
