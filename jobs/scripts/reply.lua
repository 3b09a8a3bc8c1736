#!lua
-- Records that a POST waits for a response. If the connection of the POST is cut off, its retry can then find the
-- response.
-- KEYS  replies_key
-- ARGV  id, state ("open": the POST waits, "cut": its connection was cut off, "": it was answered), most (number of
--       POSTs with the same body), ttl_ms
-- Returns 1 if the response is recorded, else 0
-- May be repeated: the new state replaces the previous state.
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
