#!lua
-- Sets what holds for a tenant. What it waits for because of a limit looks again at once.
-- KEYS  tenant
-- ARGV  prefix, tenant, (field, value or "" for the default)...
-- Returns the fields and values that are set now
-- May be repeated: a value is set, not added to.
local prefix, tenant = ARGV[1], ARGV[2]
for index = 3, #ARGV, 2 do
  if ARGV[index + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[index])
  else
    redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], TENANT_TTL)
release(prefix, tenant)
return redis.call('HGETALL', KEYS[1])
