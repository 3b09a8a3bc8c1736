#!lua
-- Finds the response of a POST whose connection was cut off. The retry of that POST then waits for this response.
-- KEYS  replies_key
-- ARGV  prefix, id (of the response that the retry would create), window_ms (in which an ended response is found),
--       settle_ms (time in which a waiting server subscribes)
-- Returns the id of the response; "open" if other POSTs still wait for all responses that were found; "" if none
--         was found
-- A server that waits is subscribed to its response on the node that runs this script, so a response without a
-- subscriber has lost its server.
-- May be repeated: the entry of the response records the id of the retry that found it.
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
    if not young and redis.call('PUBSUB', 'SHARDNUMSUB', channel)[2] == 0 then dead = other end
  end
end
local found = cut or dead
if not found then return open end
redis.call('HSET', replies_key, found, time .. ' ' .. id)
return found
