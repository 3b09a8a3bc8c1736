#!lua
-- Finds a response whose POST was cut off, for a retry of that POST, which then waits for this response.
-- KEYS  replies_key
-- ARGV  prefix, id (that the retry would make), window_ms (in which one that has ended is found),
--       settle_ms (time for a waiting server to subscribe), subscribers (0/1: this Redis counts all of them)
-- Returns the id; "open" if there are only responses for which other POSTs still wait; or ""
-- A waiting server is subscribed to its response, and Redis notices at once if that server dies. A node of a
-- cluster counts only its own subscribers: there, only POSTs that were recorded as cut are found.
-- May be repeated: the entry records the id of the retry that found it.
-- @include now fields
local time, entries, cut, dead, open = now(), redis.call('HGETALL', replies_key), nil, nil, ''
for index = 1, #entries, 2 do
  local other, state = entries[index], entries[index + 1]
  local since, by = string.match(state, '^(%d+) (%S+)$')
  if by == id and other ~= id then return other end
  local job = fields(prefix .. 'job:' .. other, 'status', 'ended')
  local young = since and time - since <= tonumber(settle_ms)
  if not job.status or (job.ended and time - job.ended > tonumber(window_ms)) then
    if not young then redis.call('HDEL', replies_key, other) end
  elseif not since then
    cut = other
  else
    open = 'open'
    local channel = prefix .. 'notifications:' .. other
    if subscribers == '1' and not young and redis.call('PUBSUB', 'NUMSUB', channel)[2] == 0 then dead = other end
  end
end
local found = cut or dead
if not found then return open end
redis.call('HSET', replies_key, found, time .. ' ' .. id)
return found
