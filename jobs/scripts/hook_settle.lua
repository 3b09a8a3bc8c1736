#!lua flags=allow-oom
-- Says what became of a webhook that was handed out: over, or to be tried again after a while.
-- KEYS  hook, hooks
-- ARGV  prefix, id, token, again ms (-1: over), how it ended ("sent", "dead")
-- Returns 1, or 0 if another token holds it or it is over
-- May be repeated: what is over is gone, and a due time is set, not added to.
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[3] then return 0 end
if tonumber(ARGV[4]) < 0 then
  end_hook(ARGV[1], ARGV[2], ARGV[5])
else
  redis.call('ZADD', KEYS[2], now() + ARGV[4], ARGV[2])
end
return 1
