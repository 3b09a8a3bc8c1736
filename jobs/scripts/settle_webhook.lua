#!lua flags=allow-oom
-- Records the result of an attempt to send a webhook: the webhook is finished, or due again after a delay.
-- KEYS  hook_key, hooks_key
-- ARGV  prefix, id, claim, again_ms (delay; -1: the webhook is finished), outcome ("sent" or "dead")
-- Returns 1, or 0 if another claim holds the webhook or the webhook no longer exists
-- May be repeated: a finished webhook no longer exists, and a second call sets the due time again.
-- @include now end_hook
if redis.call('HGET', hook_key, 'claim') ~= claim then return 0 end
if tonumber(again_ms) < 0 then
  end_hook(prefix, id, outcome)
else
  redis.call('ZADD', hooks_key, now() + again_ms, id)
end
return 1
