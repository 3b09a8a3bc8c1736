#!lua
-- Appends entries to a log and notifies its followers, if the log has the length that the writer expects. Without
-- entries, only stores the checkpoint.
-- KEYS  job_key, log_key, channel
-- ARGV  claim, expected (length of the log), max_bytes (of the entries in a notification),
--       checkpoint (that the log has with these entries; "" if it has none), entries...
-- Returns {"ok", length, cancel} · {"gone"} · {"fenced"} · {"diverged", length}
-- May be repeated: if the entries are already at the end of the log, the script does not append them again.
-- @include notify push
expected = tonumber(expected)
local f = redis.call('HMGET', job_key, 'status', 'claim', 'cancel', 'checkpoint', 'earlier_failures')
if not f[1] then
  redis.call('SPUBLISH', channel, cmsgpack.pack({ 'gone' }))
  return { 'gone' }
end
if f[1] ~= 'running' or f[2] ~= claim then return { 'fenced' } end

local length, found = push(log_key, expected, entries)
if not length then return { 'diverged', found } end
if expected == 0 then redis.call('PEXPIRE', log_key, redis.call('PTTL', job_key)) end
if checkpoint == '' and f[4] then
  redis.call('HDEL', job_key, 'checkpoint')
elseif checkpoint ~= '' and not f[4] then
  -- As in `is_same_history`, which is too long to be defined for each append.
  redis.call('HSET', job_key, 'checkpoint', checkpoint, 'history',
    string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or '')
elseif checkpoint ~= (f[4] or '') then
  -- A checkpoint that replaces another one shows progress, so the failures since the call began no longer count. Those
  -- of earlier calls do: otherwise a model that fails in the middle of each answer would be called without end.
  redis.call('HSET', job_key, 'checkpoint', checkpoint, 'failures', f[5] or 0)
end
if found == false and #entries > 0 then notify(channel, expected, entries, tonumber(max_bytes)) end
return { 'ok', length, tonumber(f[3] or 0) }
