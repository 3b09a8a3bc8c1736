#!lua flags=no-writes
-- Returns the running jobs whose leases end first. So jobs that have lost their workers come first.
-- KEYS  leases_key
-- ARGV  prefix, most
-- Returns {now in ms, {id, end of its lease in ms, attempt, queue_name, submission in ms}...}
-- May be repeated: it writes nothing.
-- @include now fields
local time, found = now(), {}
local leases = redis.call('ZRANGE', leases_key, 0, most - 1, 'WITHSCORES')
for index = 1, #leases, 2 do
  local job = fields(prefix .. 'job:' .. leases[index], 'attempt', 'queue_name', 'submitted')
  found[#found + 1] = { leases[index], tonumber(leases[index + 1]), tonumber(job.attempt or 0), job.queue_name or '',
    tonumber(job.submitted or time) }
end
return { time, unpack(found) }
