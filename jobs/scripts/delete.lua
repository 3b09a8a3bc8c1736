#!lua flags=allow-oom
-- Deletes a response in any state, and notifies a worker that still writes to the response. Accepted jobs that
-- continue from the response can read its items until they end.
-- KEYS  job_key, log_key, turn_key, channel, cancels_channel
-- ARGV  prefix, id
-- Returns 1 if the response existed, else 0
-- May be repeated: a second call finds no response to delete.
-- @include fields tenant_of end_wait book close drop_pushes turn_is_held
local job = fields(job_key, 'status', 'owner', 'account', 'day', 'tokens', 'money', 'attempt', 'queue_name', 'key')
local tenant = tenant_of(job.owner or '')
if job.key then redis.call('DEL', job.key) end
book(prefix, id, job, tenant, -1, -1)
close(prefix, id, tenant)
end_wait(prefix, job.queue_name or '', id) -- a later claim removes the id from the waiting list
redis.call('ZREM', prefix .. 'delayed', id)
redis.call('ZREM', prefix .. 'hooks', id)
redis.call('ZREM', prefix .. 'feedbacks', id)
drop_pushes(prefix, id)
redis.call('LREM', prefix .. 'dead', 0, id)
redis.call('DEL', job_key, log_key, prefix .. 'hook:' .. id, prefix .. 'feedback:' .. id, prefix .. 'steers:' .. id)
if turn_is_held(turn_key) then redis.call('HSET', turn_key, 'deleted', 1) else redis.call('DEL', turn_key) end
redis.call('SPUBLISH', cancels_channel, id)
redis.call('SPUBLISH', channel, cmsgpack.pack({ 'gone' }))
return job.status and 1 or 0
