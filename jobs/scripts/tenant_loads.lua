#!lua flags=no-writes
-- Returns the numbers of unfinished and running jobs of tenants, and how much of today's budgets they have used.
-- KEYS  tenants_key
-- ARGV  prefix, tokens_per_day, money_per_day (limits of tenants whose settings have no such limit; 0 means no limit),
--       tenants...
-- Returns {number of tenants with unfinished jobs, {tenant, unfinished, running, 1 if the limit of running jobs holds
--         the tenant back or 0, tokens used, their limit, money used in millionths, its limit}...}
-- May be repeated: it writes nothing.
-- @include now running_of held_of DAY used_of open_of
local time, found = now(), { redis.call('ZCARD', tenants_key) }
for index, tenant in ipairs(tenants) do
  local limits = redis.call('HMGET', prefix .. 'tenant:' .. tenant, 'tokens_per_day', 'money_per_day')
  local used = redis.call('HMGET', used_of(prefix, tenant, math.floor(time / DAY)), 'tokens', 'money')
  found[index + 1] = { tenant, redis.call('ZCOUNT', open_of(prefix, tenant), time, '+inf'),
    redis.call('ZCOUNT', running_of(prefix, tenant), time, '+inf'), redis.call('EXISTS', held_of(prefix, tenant)),
    used[1] or '0', limits[1] or tokens_per_day, used[2] or '0', limits[2] or money_per_day }
end
return found
