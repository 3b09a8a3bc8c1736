#!lua flags=allow-oom
-- Appends an entry to the audit log, and removes entries that are too old or too many. Runs even if Redis has reached
-- its memory limit, because an operator who deletes data to free memory must be able to record the deletion.
-- KEYS  audit_key
-- ARGV  ttl_ms, max_entries, entry... (the names and values of the entry's fields)
-- Returns the id of the entry, which begins with the time of Redis's clock in ms
-- May be repeated: if one of the last 100 entries has the same fields, the script appends nothing. The random field
-- `change` makes every other entry different.
-- @include now
for _, last in ipairs(redis.call('XREVRANGE', audit_key, '+', '-', 'COUNT', 100)) do
  if table.concat(last[2], '\0') == table.concat(entry, '\0') then return last[1] end
end
local id = redis.call('XADD', audit_key, 'MAXLEN', max_entries, '*', unpack(entry))
redis.call('XTRIM', audit_key, 'MINID', now() - ttl_ms)
redis.call('PEXPIRE', audit_key, ttl_ms)
return id
