#!lua flags=allow-oom
-- Settles a webhook that was handed out: it is finished, or due again after a delay.
-- KEYS  hook_key, hooks_key
-- ARGV  prefix, id, claim, again_ms (-1: over), outcome ("sent" or "dead")
-- Returns 1, or 0 if another claim holds the webhook or it is finished
-- May be repeated: a finished webhook no longer exists, and a due time is set, not added to.
-- @include now end_hook
if redis.call('HGET', hook_key, 'claim') ~= claim then return 0 end
if tonumber(again_ms) < 0 then
  end_hook(prefix, id, outcome)
else
  redis.call('ZADD', hooks_key, now() + again_ms, id)
end
return 1
