#!lua
-- Writes one record of a shelf, a hash of what operators keep here, if it is still what was read.
-- KEYS  shelf
-- ARGV  id, the record that was read ("" where there was none), the new one ("" to remove it),
--       ttl ms, most records
-- Returns {"ok"} · {"changed"}: read it again · {"full", records}
-- May be repeated: a record that is already the new one is left as it is.
local id, before, after = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('HGET', KEYS[1], id) or ''
if found ~= after then
  if found ~= before then return { 'changed' } end
  local records = redis.call('HLEN', KEYS[1])
  if after == '' then
    redis.call('HDEL', KEYS[1], id)
  elseif before == '' and records >= tonumber(ARGV[5]) then
    return { 'full', records }
  else
    redis.call('HSET', KEYS[1], id, after)
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { 'ok' }
