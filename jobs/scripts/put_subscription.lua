#!lua
-- Adds a push subscription to the set of its owner, or renews it there. Removes expired subscriptions from the set.
-- KEYS  subscriptions_key
-- ARGV  id, ttl_ms (of this subscription), max_ttl_ms (of any subscription), most (subscriptions of an owner)
-- Returns {"ok"} · {"full"}
-- May be repeated: a second call sets the time of the expiry again.
-- @include now
local time = now()
redis.call('ZREMRANGEBYSCORE', subscriptions_key, '-inf', time)
if not redis.call('ZSCORE', subscriptions_key, id) and redis.call('ZCARD', subscriptions_key) >= tonumber(most) then
  return { 'full' }
end
redis.call('ZADD', subscriptions_key, time + ttl_ms, id)
redis.call('PEXPIRE', subscriptions_key, max_ttl_ms)
return { 'ok' }
