#!lua
-- Pauses a model because its provider asked for it: none of the model's jobs may start during the pause. After the
-- pause, the number of jobs that may begin doubles step by step: 1, 2, 4, ...
-- KEYS  pause_key
-- ARGV  pause_ms
-- Returns 1 if the pause was set or extended, 0 if the current pause already ends later than the new one would
-- May be repeated: the script never shortens a pause.
-- @include DELAY_BOUND now RAMP
local time = now()
local till = redis.call('HGET', pause_key, 'until')
if till and tonumber(till) >= time + pause_ms and till - time <= DELAY_BOUND then return 0 end
redis.call('HSET', pause_key, 'until', time + pause_ms, 'begun', 0)
redis.call('PEXPIRE', pause_key, pause_ms + RAMP)
return 1
