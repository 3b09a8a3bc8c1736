#!lua
-- Looks for what time or death has left behind, a bounded number of each:
--   retries that are due, leases that ran out, ids that fell out of the queue.
-- A job that may not be tried again is handed to the caller, who must write its last event.
-- KEYS  leases, delayed, open
-- ARGV  prefix, token, lease ms, max attempts, inspect ms, limit
-- Returns {requeued, {grant...}}; a grant as in claim, its reason one of the words below
-- May be repeated: each step is a no-op once done. Grants of a lost reply run out like any lease.
local prefix, token, lease_ms, limit = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[6])
local time, requeued, grants = now(), 0, {}

local function due(key) return redis.call('ZRANGEBYSCORE', key, '-inf', time, 'LIMIT', 0, limit) end

local function take(id, reason)
  -- `ending` outlives this rescuer: whoever finds its lease run out ends the job, and never runs it.
  redis.call('HSET', prefix .. 'job:' .. id, 'status', 'running', 'claim', token, 'reason', reason,
    'ending', reason)
  redis.call('ZREM', KEYS[2], id)
  lease(prefix, id, time + lease_ms)
  grants[#grants + 1] = grant(prefix, id, time)
end

local function requeue(id, owner, front)
  requeued = requeued + 1
  return enqueue(prefix, owner, id, front)
end

requeued = promote(prefix, time, limit)

for _, id in ipairs(due(KEYS[1])) do
  local job = prefix .. 'job:' .. id
  local f = redis.call('HMGET', job, 'status', 'owner', 'cancel', 'fail_on_death', 'ending')
  if f[1] ~= 'running' then
    unlease(prefix, id)
  elseif f[5] then
    take(id, f[5])
  elseif f[3] then
    take(id, 'cancelled')
  elseif redis.call('HINCRBY', job, 'strikes', 1) >= tonumber(ARGV[4]) or f[4] == '1' then
    take(id, 'worker_lost')
  else
    redis.call('HSET', job, 'status', 'queued', 'claim', '', 'reason', 'worker_lost')
    unlease(prefix, id)
    ring_queued(prefix .. 'bell:' .. id, requeue(id, f[2], true), 0, 'worker_lost')
  end
end

for _, id in ipairs(due(KEYS[3])) do
  local f = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'owner', 'until', 'number', 'lane')
  local lane = f[5] or ''
  local tenant = tenant_of(f[2] or '')
  local ready = ready_of(prefix, lane, tenant)
  redis.call('ZADD', KEYS[3], time + ARGV[5], id)
  if not f[1] or (f[1] ~= 'queued' and f[1] ~= 'running') then
    redis.call('ZREM', KEYS[3], id)
  elseif f[1] == 'running' then
    if not redis.call('ZSCORE', KEYS[1], id) then lease(prefix, id, time) end
  elseif time > tonumber(f[3] or 0) then
    take(id, 'expired')
  elseif not redis.call('ZSCORE', KEYS[2], id) then
    -- Numbers in a list ascend: only one that was overtaken is worth a search.
    local head = redis.call('LINDEX', ready, 0)
    local first = head and tonumber(redis.call('HGET', prefix .. 'job:' .. head, 'number') or 0)
    local overtaken = not first or tonumber(f[4] or 0) < first
    if overtaken and not redis.call('LPOS', ready, id) then
      requeue(id, f[2], true)
    else
      -- Held back, and nothing runs whose end would release it: that end was lost.
      if count_running(prefix, tenant, time) == 0 then release(prefix, tenant) end
      await_turn(prefix, lane, tenant)
    end
  end
end
return { requeued, grants }
