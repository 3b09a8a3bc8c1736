#!lua
-- Writes one record of an operator's hash, if the record is still the one that the caller has read.
-- KEYS  records_key
-- ARGV  id, before (the record that was read, "" where there was none), after ("" to remove it),
--       ttl_ms, max_records
-- Returns {"ok"} · {"changed"}: read it again · {"full", records}
-- May be repeated: a record that already has the new value is left as it is.
local found = redis.call('HGET', records_key, id) or ''
if found ~= after then
  if found ~= before then return { 'changed' } end
  local records = redis.call('HLEN', records_key)
  if after == '' then
    redis.call('HDEL', records_key, id)
  elseif before == '' and records >= tonumber(max_records) then
    return { 'full', records }
  else
    redis.call('HSET', records_key, id, after)
  end
end
redis.call('PEXPIRE', records_key, ttl_ms)
return { 'ok' }
