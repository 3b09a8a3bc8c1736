#!lua
-- Lets nothing of a model begin for a while: its provider asked for that. Then one, two, four, ...
-- KEYS  pause
-- ARGV  prefix, ms
-- Returns 1 if this is the longest pause that was asked for, else 0
-- May be repeated: the end of a pause only ever moves back.
local time = now()
local till = redis.call('HGET', KEYS[1], 'until')
if till and tonumber(till) >= time + ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'until', time + ARGV[2], 'begun', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[2] + RAMP)
return 1
