#!lua
-- Recovers jobs, a bounded number of each kind: retries that are due, jobs whose lease has expired, jobs whose
-- waiting time is over, and ids that were lost from the queue.
-- A job that may not be tried again is granted to the caller, which must write its last event.
-- KEYS  leases_key, delayed_key, open_key
-- ARGV  prefix, claim, lease_ms, max_attempts, inspect_ms, limit
-- Returns {requeued, {grant...}}; a grant is as in `claim`, with the reason "cancelled", "worker_lost" or "expired"
-- May be repeated: a completed step is not done again, and the grants of a lost reply expire like any lease.
-- @include STRUCTURE_TTL DELAY_BOUND now cap fields waiting_of notify_queued grant tenant_of ready_of idle_of open_queue
-- @include ensure_ready enqueue_first count_running lease release unlease promote close
lease_ms, limit = tonumber(lease_ms), tonumber(limit)
local time, requeued, grants = now(), 0, {}

cap(leases_key, time + lease_ms, limit)
cap(delayed_key, time + DELAY_BOUND, limit)
cap(open_key, time + inspect_ms, limit)

local function due(key) return redis.call('ZRANGEBYSCORE', key, '-inf', time, 'LIMIT', 0, limit) end

local function take(id, owner, reason)
  -- `ending` outlives the rescuing process: if this lease expires too, the next rescue ends the job, and no
  -- worker runs it again.
  local name = prefix .. 'job:' .. id
  redis.call('HSET', name, 'status', 'running', 'claim', claim, 'reason', reason, 'ending', reason)
  redis.call('ZREM', delayed_key, id)
  lease(prefix, tenant_of(owner), { time + lease_ms, id })
  local job = fields(name, 'job', 'attempt', 'failures', 'cancel', 'reason', 'submitted', 'queue_name')
  grants[#grants + 1] = grant(prefix, id, job, time)
end

requeued = promote(prefix, time, limit)

for _, id in ipairs(due(leases_key)) do
  local name = prefix .. 'job:' .. id
  local job = fields(name, 'status', 'owner', 'queue_name', 'cancel', 'fail_on_death', 'ending')
  local tenant = tenant_of(job.owner or '')
  if job.status ~= 'running' then
    unlease(prefix, tenant, id)
  elseif job.ending then
    take(id, job.owner, job.ending)
  elseif job.cancel then
    take(id, job.owner, 'cancelled')
  elseif redis.call('HINCRBY', name, 'failures', 1) >= tonumber(max_attempts) or job.fail_on_death == '1' then
    take(id, job.owner, 'worker_lost')
  else
    unlease(prefix, tenant, id)
    local number = enqueue_first(prefix, tenant, job.queue_name or '', id)
    redis.call('HSET', name, 'status', 'queued', 'claim', '', 'reason', 'worker_lost', 'number', number)
    notify_queued(prefix .. 'notifications:' .. id, number, 0, 'worker_lost')
    requeued = requeued + 1
  end
end

for _, id in ipairs(due(open_key)) do
  local name = prefix .. 'job:' .. id
  local job = fields(name, 'status', 'owner', 'until', 'number', 'queue_name')
  local tenant, queue_name = tenant_of(job.owner or ''), job.queue_name or ''
  redis.call('ZADD', open_key, time + inspect_ms, id)
  if job.status ~= 'queued' and job.status ~= 'running' then
    close(prefix, id, tenant)
  elseif job.status == 'running' then
    if not redis.call('ZSCORE', leases_key, id) then lease(prefix, tenant, { time, id }) end
  elseif time > tonumber(job['until'] or 0) then
    take(id, job.owner, 'expired')
  elseif not redis.call('ZSCORE', delayed_key, id) then
    -- Numbers in a list ascend, so the list is searched only if the head's number is higher or there is no head.
    local waiting = waiting_of(prefix, queue_name, tenant)
    local head = redis.call('LINDEX', waiting, 0)
    local first = head and tonumber(redis.call('HGET', prefix .. 'job:' .. head, 'number') or 0)
    local overtaken = not first or tonumber(job.number or 0) < first
    if overtaken and not redis.call('LPOS', waiting, id) then
      redis.call('HSET', name, 'number', enqueue_first(prefix, tenant, queue_name, id))
      requeued = requeued + 1
    else
      -- If the tenant is held back and none of its jobs runs, no end of a job will release it: one was lost.
      if count_running(prefix, tenant, time) == 0 then release(prefix, tenant) end
      ensure_ready(prefix, queue_name, tenant)
      if redis.call('EXISTS', ready_of(prefix, queue_name)) == 1 then open_queue(prefix, queue_name) end
    end
  end
end

-- A TTL is set when a key is created. On a busy system these keys are never empty and so never created again.
for _, name in ipairs({ 'leases', 'open', 'queues', 'wake', 'followed', 'numbers', 'sizes' }) do
  redis.call('PEXPIRE', prefix .. name, STRUCTURE_TTL)
end
for _, queue_name in ipairs(redis.call('LRANGE', prefix .. 'queues', 0, -1)) do
  redis.call('PEXPIRE', idle_of(prefix, queue_name), STRUCTURE_TTL)
end
return { requeued, grants }
