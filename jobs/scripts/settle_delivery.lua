#!lua flags=allow-oom
-- Records the result of an attempt to send a delivery: the delivery is finished, or due again after a delay.
-- KEYS  delivery_key, queue_key
-- ARGV  prefix, kind ("hook" or "push"), id, claim, again_ms (delay; -1: the delivery is finished), outcome (under
--       which a finished delivery is counted, such as "sent" or "dead")
-- Returns 1, or 0 if another claim holds the delivery or the delivery no longer exists
-- May be repeated: a finished delivery no longer exists, and a second call sets the due time again.
-- @include now end_delivery
if redis.call('HGET', delivery_key, 'claim') ~= claim then return 0 end
if tonumber(again_ms) < 0 then
  end_delivery(prefix, kind, id, outcome)
else
  redis.call('ZADD', queue_key, now() + again_ms, id)
end
return 1
