#!lua flags=allow-oom
-- Records the result of an attempt to send a delivery: the delivery is finished, or due again after a delay. If its message
-- has changed during the attempt, a finished delivery is due again at once.
-- KEYS  delivery_key, queue_key
-- ARGV  prefix, kind ("hook", "push" or "feedback"), id, claim, again_ms (delay; -1: the delivery is finished), outcome (under
--       which a finished delivery is counted, such as "sent" or "dead")
-- Returns 1, or 0 if another claim holds the delivery or the delivery no longer exists
-- May be repeated: a finished delivery no longer exists, and a second call sets the due time again.
-- @include now end_delivery count_delivery
if redis.call('HGET', delivery_key, 'claim') ~= claim then return 0 end
if tonumber(again_ms) >= 0 then
  redis.call('ZADD', queue_key, now() + again_ms, id)
elseif redis.call('HGET', delivery_key, 'changed') then
  count_delivery(prefix, kind, outcome)
  redis.call('HSET', delivery_key, 'tries', 0, 'claim', '')
  redis.call('ZADD', queue_key, now(), id)
else
  end_delivery(prefix, kind, id, outcome)
end
return 1
