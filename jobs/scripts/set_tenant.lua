#!lua
-- Changes the settings of a tenant. If a limit held the tenant back, the new one is checked at once.
-- KEYS  tenant_key
-- ARGV  prefix, tenant, settings... (two each: field, value or "" for the default)
-- Returns the fields and values that are set now
-- May be repeated: a value is set, not added to.
-- @include TENANT_TTL release
for index = 1, #settings, 2 do
  if settings[index + 1] == '' then
    redis.call('HDEL', tenant_key, settings[index])
  else
    redis.call('HSET', tenant_key, settings[index], settings[index + 1])
  end
end
redis.call('PEXPIRE', tenant_key, TENANT_TTL)
release(prefix, tenant)
return redis.call('HGETALL', tenant_key)
