#!lua
-- Replaces the push of a response by one push for each subscription, all of which are due at once.
-- KEYS  push_key, queue_key
-- ARGV  prefix, id, claim, targets... (ids of subscriptions)
-- Returns 1, or 0 if another claim holds the push or the push no longer exists
-- May be repeated: the subscriptions are recorded in the push, which is spread only once.
-- @include now fields queue_delivery
local whole = fields(push_key, 'claim', 'status', 'ended', 'trace', 'owner', 'targets')
if whole.claim ~= claim then return 0 end
if whole.targets then return 1 end
local spread = {}
for _, target in ipairs(targets) do
  if queue_delivery(prefix, 'push', id .. ':' .. target, now(), 'status', whole.status, 'ended', whole.ended, 'trace', whole.trace,
    'owner', whole.owner) then
    spread[#spread + 1] = target
  end
end
redis.call('HSET', push_key, 'targets', table.concat(spread, ' '))
redis.call('HDEL', push_key, 'owner') -- the name of an end user is kept no longer than it is needed
redis.call('ZREM', queue_key, id)
return 1
