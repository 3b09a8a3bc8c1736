#!lua
-- Appends the last entries and ends the job in the same breath: one terminal event, and it is last.
-- KEYS  job, log, bell
-- ARGV  prefix, id, claim, expected length, most bytes a bell carries, status, retention ms,
--       bury (0/1), tokens and money (millionths) that it took (-1: nobody knows), entry...
-- Returns {"ok", length} · {"gone"} · {"fenced"} · {"diverged", length}
-- May be repeated: the claim that finished and the same tail mean that this was it.
local prefix, id, claim, expected, frames = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), rest(11)
local f = redis.call('HMGET', KEYS[1], 'status', 'claim', 'sealed')
if not f[1] then return { 'gone' } end
if f[2] ~= claim or (f[1] ~= 'running' and f[1] ~= ARGV[6]) then return { 'fenced' } end
-- Nothing follows the last event: what has ended can only be found to have ended in this very way.
local ended = f[1] ~= 'running'
local had = f[3] and entries_of(f[3]) or redis.call('LLEN', KEYS[2])
if ended and had ~= expected + #frames then return { 'fenced' } end
-- Only the claim that had ended it could seal it, so this was it; there is no tail to compare.
if f[3] then return { 'ok', had } end

local length, found = push(KEYS[2], expected, frames)
if not length then return { 'diverged', found } end
if found or ended then return { 'ok', length } end
local time = now()
redis.call('HSET', KEYS[1], 'status', ARGV[6], 'ended', time)
keep(KEYS[1], KEYS[2], ARGV[7])
settle(prefix, id, tonumber(ARGV[9]))
book(prefix, id, tonumber(ARGV[9]), tonumber(ARGV[10]))
close(prefix, id)
hook(prefix, id, ARGV[6], time)
if ARGV[8] == '1' then bury(prefix, id) end
ring(KEYS[3], expected, frames, tonumber(ARGV[5]))
return { 'ok', length }
