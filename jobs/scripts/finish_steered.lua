#!lua
-- Ends a steered job and queues its successor, in one atomic step. So each accepted steer is in exactly one successor,
-- or is given back.
-- KEYS  job_key, log_key, channel
-- ARGV  prefix, id, claim, expected (length of the log), max_bytes (of the entries in a notification),
--       status, retention_ms, tokens (actual usage; -1: unknown), money (actual cost in millionths; -1: unknown),
--       steers (that the successor contains), successor (its id), record (its job), successor_tokens (estimate),
--       successor_money (estimate), ttl_ms, max_wait_ms, inspect_ms, orphan_ms, begins (entry that the first claim
--       appends; "" if the worker appends it), created (its first entry), queued (its second entry),
--       http_status (as for `finish`), entries...
-- Returns the same replies as `finish`
-- May be repeated: only the call that ends the job queues the successor.
-- @include now fields tenant_of sum_sizes store_job FINISHED finish_job
local job = fields(job_key, unpack(FINISHED))
local orphan = redis.call('ZSCORE', prefix .. 'followed', id) and orphan_ms or ''
local reply, done = finish_job(prefix, id, job, { claim = claim, expected = expected, max_bytes = max_bytes, status = status,
  retention_ms = retention_ms, to_dead = '0', tokens = tokens, money = money, steers = steers, successor = successor,
  http_status = http_status, entries = entries })
if not done then return reply end
local tenant = tenant_of(job.owner)
local all_bytes, own_bytes = sum_sizes(prefix, tenant)
store_job(prefix, successor, { owner = job.owner, tenant = tenant, record = record, time = now(), queue_name = job.queue_name or '',
  tokens = tonumber(successor_tokens), money = tonumber(successor_money), accounts = { tenant, job.account }, max_wait_ms = max_wait_ms,
  ttl_ms = ttl_ms, inspect_ms = inspect_ms, orphan_ms = orphan, fail_on_death = job.fail_on_death or '', context_bytes = '',
  first_entry = begins, hook = job.hook or '', push_wait = job.push or '', unstored = job.unstored or '', key = '', trace = job.trace or '', bytes = #record, all_bytes = all_bytes, own_bytes = own_bytes, open = 0,
  entries = { created, queued }, max_bytes = max_bytes, first = true })
return reply
