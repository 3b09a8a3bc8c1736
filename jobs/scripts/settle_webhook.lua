#!lua flags=allow-oom
-- Says what became of a webhook that was handed out: over, or to be tried again after a while.
-- KEYS  hook_key, hooks_key
-- ARGV  prefix, id, claim, again_ms (-1: over), outcome ("sent" or "dead")
-- Returns 1, or 0 if another claim holds it or it is over
-- May be repeated: what is over is gone, and a due time is set, not added to.
-- @include now end_hook
if redis.call('HGET', hook_key, 'claim') ~= claim then return 0 end
if tonumber(again_ms) < 0 then
  end_hook(prefix, id, outcome)
else
  redis.call('ZADD', hooks_key, now() + again_ms, id)
end
return 1
