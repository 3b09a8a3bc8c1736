#!lua
-- Compares the log's length with what its writer believes, then appends and rings.
-- KEYS  job, log, bell
-- ARGV  claim, expected length, most bytes a bell carries, entry...
-- Returns {"ok", length, cancel} · {"gone"} · {"fenced"} · {"diverged", length}
-- May be repeated: entries that are already the tail are not pushed twice.
local expected, frames = tonumber(ARGV[2]), rest(4)
local f = redis.call('HMGET', KEYS[1], 'status', 'claim', 'cancel')
if not f[1] then
  redis.call('PUBLISH', KEYS[3], cmsgpack.pack({ 'gone' }))
  return { 'gone' }
end
if f[1] ~= 'running' or f[2] ~= ARGV[1] then return { 'fenced' } end

local length, found = push(KEYS[2], expected, frames)
if not length then return { 'diverged', found } end
if expected == 0 then redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1])) end
if found == false then ring(KEYS[3], expected, frames, tonumber(ARGV[3])) end
return { 'ok', length, tonumber(f[3] or 0) }
