#!lua
-- Writes one record of an operator, such as an API key, if the record has not changed since the caller read it.
-- KEYS  records_key
-- ARGV  id, before (the record that the caller has read, "" if it did not exist), after (the new record, "" to
--       remove the record), ttl_ms, max_records
-- Returns {"ok"} · {"changed"}: read the record again · {"full", records}
-- May be repeated: a record that already has the new value is not changed.
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
