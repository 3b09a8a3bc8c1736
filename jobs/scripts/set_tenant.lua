#!lua
-- Changes the settings of a tenant. If the tenant was held back by a limit, the next claim checks the new limit.
-- KEYS  tenant_key
-- ARGV  prefix, tenant, settings... (two for each setting: its name, and its value or "" to restore the default)
-- Returns the names and values of all settings of the tenant
-- May be repeated: a second call sets the same values again.
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
