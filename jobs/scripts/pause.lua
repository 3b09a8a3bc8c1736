#!lua
-- Lets no job of a model begin for a while, because its provider asked for that. Then one, two, four, ... may.
-- KEYS  pause_key
-- ARGV  pause_ms
-- Returns 1 if this pause ends later than the current one, else 0
-- May be repeated: a pause is only ever extended.
-- @include DELAY_BOUND now RAMP
local time = now()
local till = redis.call('HGET', pause_key, 'until')
if till and tonumber(till) >= time + pause_ms and till - time <= DELAY_BOUND then return 0 end
redis.call('HSET', pause_key, 'until', time + pause_ms, 'begun', 0)
redis.call('PEXPIRE', pause_key, pause_ms + RAMP)
return 1
