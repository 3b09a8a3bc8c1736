#!lua
-- Records the responses for which POSTs with one body wait, so that the retry of a POST that was cut off finds
-- its response.
-- KEYS  replies_key
-- ARGV  id, state ("open": its reply is not written yet; "cut": it will not be; "": it is), most, ttl_ms
-- Returns 1 if the response is recorded, else 0
-- May be repeated: the last state replaces the one before.
-- @include now
if state == '' or (state == 'cut' and redis.call('HEXISTS', replies_key, id) == 0) then
  redis.call('HDEL', replies_key, id)
  return 0
end
if state == 'open' then
  if redis.call('HLEN', replies_key) >= tonumber(most) then return 0 end
  state = now() .. ' ' .. id
end
redis.call('HSET', replies_key, id, state)
redis.call('PEXPIRE', replies_key, ttl_ms)
return 1
