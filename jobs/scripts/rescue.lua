#!lua
-- Recovers jobs, up to `limit` of each kind: jobs whose retry is due, jobs whose lease has expired, jobs that have
-- waited too long, and jobs whose ids Redis has lost from the queue.
-- The script assigns each job that must not run again to the caller, which must append the last event of its log.
-- KEYS  leases_key, delayed_key, open_key, rescued_key
-- ARGV  prefix, claim, lease_ms, max_attempts, inspect_ms, limit,
--       every_ms (the script does nothing in this time after its last call that did more),
--       max_gap_ms, grace_ms (after a longer gap between two calls, no job is recovered for this time)
-- Returns {requeued, {grant...}}; a grant has the same form as in `claim.lua`, with the reason "cancelled",
--         "worker_lost" or "expired"
-- May be repeated: a completed step is not done again. If the reply is lost, the leases of its jobs expire, and the
-- next rescue assigns these jobs again.
-- @include STRUCTURE_TTL WORKERS_BOUND now cap fields with_step waiting_of is_readable notify_queued grant tenant_of ready_of idle_of since_of open_queue
-- @include ensure_ready enqueue_first end_wait count_running lease release unlease promote sizes_of count_open close
lease_ms, limit, every_ms = tonumber(lease_ms), tonumber(limit), tonumber(every_ms)
local time, requeued, grants = now(), 0, {}

-- While workers reach Redis, two calls of this script are at most `max_gap_ms` apart. After a longer gap, leases may have
-- expired because no worker could renew them. The live workers then get time to renew their leases, or this script
-- would take their jobs. They get it only once, because a single worker that is always late must still rescue.
local last, start = string.match(redis.call('GET', rescued_key) or '', '^(%d+) (%d+)$')
last, start = tonumber(last or 0), math.min(tonumber(start or 0), time + grace_ms)
if last <= time and time - last < every_ms then return { 0, {} } end
if last > 0 and time - last > tonumber(max_gap_ms) and start == 0 then start = time + grace_ms end
if start <= time then start = 0 end
redis.call('SET', rescued_key, time .. ' ' .. start, 'PX', STRUCTURE_TTL)
if start > 0 then return { 0, {} } end

cap(leases_key, time + lease_ms, limit)
-- A retry cannot be due later than its own delay from now, unless Redis's clock has stepped back.
local later = redis.call('ZRANGEBYSCORE', delayed_key, '(' .. time, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
for index = 1, #later, 2 do
  local latest = time + (redis.call('HGET', prefix .. 'job:' .. later[index], 'delay') or 0)
  if tonumber(later[index + 1]) > latest then redis.call('ZADD', delayed_key, 'XX', latest, later[index]) end
end
cap(open_key, time + inspect_ms, limit)

local function due(key) return redis.call('ZRANGEBYSCORE', key, '-inf', time, 'LIMIT', 0, limit) end

local function take(id, owner, reason)
  -- The field `ending` remains if the calling process dies. When the lease of that process has expired too, the next
  -- rescue finds the field and ends the job, so no worker runs the job again.
  local name = prefix .. 'job:' .. id
  redis.call('HSET', name, 'status', 'running', 'claim', claim, 'reason', reason, 'ending', reason,
    'steps', with_step(redis.call('HGET', name, 'steps'), 'ending', time, reason))
  redis.call('ZREM', delayed_key, id)
  lease(prefix, tenant_of(owner), { time + lease_ms, id })
  local job = fields(name, 'job', 'attempt', 'failures', 'cancel', 'reason', 'submitted', 'queue_name', 'steers', 'checkpoint', 'history',
    'trace', 'requeued', 'steps')
  end_wait(prefix, job.queue_name or '', id)
  grants[#grants + 1] = grant(prefix, id, job, time)
end

requeued = promote(prefix, time, limit)

for _, id in ipairs(due(leases_key)) do
  local name = prefix .. 'job:' .. id
  local job = fields(name, 'status', 'owner', 'queue_name', 'cancel', 'fail_on_death', 'ending', 'submitted', 'steps')
  local tenant = tenant_of(job.owner or '')
  if not is_readable(job.queue_name or '') then
    -- Only a newer worker can recover this job. Its lease is moved behind the other expired leases.
    redis.call('ZADD', leases_key, 'XX', time, id)
  elseif job.status ~= 'running' then
    unlease(prefix, tenant, id)
  elseif job.ending then
    take(id, job.owner, job.ending)
  elseif job.cancel then
    take(id, job.owner, 'cancelled')
  elseif redis.call('HINCRBY', name, 'failures', 1) >= tonumber(max_attempts) or job.fail_on_death == '1' then
    take(id, job.owner, 'worker_lost')
  else
    unlease(prefix, tenant, id)
    local number = enqueue_first(prefix, tenant, job.queue_name or '', id, job.submitted)
    redis.call('HSET', name, 'status', 'queued', 'claim', '', 'reason', 'worker_lost', 'number', number,
      'requeued', time, 'steps', with_step(job.steps, 'worker_lost', time))
    notify_queued(prefix .. 'notifications:' .. id, number, 0, 'worker_lost')
    requeued = requeued + 1
  end
end

for _, id in ipairs(due(open_key)) do
  local name = prefix .. 'job:' .. id
  local job = fields(name, 'status', 'owner', 'until', 'number', 'queue_name', 'submitted')
  local tenant, queue_name = tenant_of(job.owner or ''), job.queue_name or ''
  redis.call('ZADD', open_key, time + inspect_ms, id)
  if not is_readable(queue_name) then
    -- Only a newer worker can recover this job.
  elseif job.status ~= 'queued' and job.status ~= 'running' then
    -- The hash of a job that no worker has rescued in time has expired, with the names of its tenant and its queue.
    if not job.status then
      tenant = string.match(redis.call('HGET', sizes_of(prefix), id) or '', ' (.*)$') or ''
      count_open(prefix, tenant, time)
      for _, queue in ipairs(redis.call('SMEMBERS', prefix .. 'queue_names')) do end_wait(prefix, queue, id) end
    end
    close(prefix, id, tenant)
  elseif job.status == 'running' then
    if not redis.call('ZSCORE', leases_key, id) then lease(prefix, tenant, { time, id }) end
  elseif time > tonumber(job['until'] or 0) then
    take(id, job.owner, 'expired')
  elseif not redis.call('ZSCORE', delayed_key, id) then
    -- Job numbers ascend in a waiting list, and jobs leave it at the front. So this job can be missing from the list
    -- only if the list is empty or its first job has a higher number. The list is searched only in these cases.
    local waiting = waiting_of(prefix, queue_name, tenant)
    local head = redis.call('LINDEX', waiting, 0)
    local first = head and tonumber(redis.call('HGET', prefix .. 'job:' .. head, 'number') or 0)
    local overtaken = not first or tonumber(job.number or 0) < first
    if overtaken and not redis.call('LPOS', waiting, id) then
      redis.call('HSET', name, 'number', enqueue_first(prefix, tenant, queue_name, id, job.submitted))
      requeued = requeued + 1
    else
      -- A tenant that is held back is released when one of its jobs ends. If the tenant is still held back but none
      -- of its jobs is running, that release was lost, so the script releases the tenant.
      if count_running(prefix, tenant, time) == 0 then release(prefix, tenant) end
      ensure_ready(prefix, queue_name, tenant)
      if redis.call('EXISTS', ready_of(prefix, queue_name)) == 1 then open_queue(prefix, queue_name) end
    end
  end
end

redis.call('ZREMRANGEBYRANK', prefix .. 'idle_workers', 0, -WORKERS_BOUND - 1)

-- The keys that all jobs share get their TTL only when they are created. On a busy system these keys always exist, so
-- they would expire if the rescue did not renew the TTL.
for _, name in ipairs({ 'leases', 'open', 'queues', 'idle_workers', 'followed', 'numbers', 'sizes', 'queue_names',
  'tenants' }) do
  redis.call('PEXPIRE', prefix .. name, STRUCTURE_TTL)
end
for _, queue_name in ipairs(redis.call('LRANGE', prefix .. 'queues', 0, -1)) do
  redis.call('PEXPIRE', idle_of(prefix, queue_name), STRUCTURE_TTL)
  redis.call('PEXPIRE', since_of(prefix, queue_name), STRUCTURE_TTL)
end
-- More jobs than `limit` may be lost, so the next call must not wait.
if requeued + #grants >= limit then
  redis.call('SET', rescued_key, time - every_ms .. ' 0', 'PX', STRUCTURE_TTL)
end
return { requeued, grants }
