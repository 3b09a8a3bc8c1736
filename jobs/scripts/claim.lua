#!lua
-- Assigns up to `count` waiting jobs to a worker, each with a lease. Higher tiers are served first. Within a tier,
-- the models take turns, and for each model the tenant with the lowest finish tag is served next. Higher tiers
-- overtake a job that has waited for long only a few more times. A tenant that has reached its limit of running
-- jobs is held back until one of its jobs ends. When a job is assigned for the first time, the script also appends
-- the first event of that attempt to the job's log.
-- KEYS  queues_key, claimed_key
-- ARGV  prefix, claim, worker (to wake when a job is queued; "" means none), count, lease_ms,
--       tenant_running (limit of running jobs for tenants whose settings have no such limit; 0 means no limit),
--       max_bytes (of the entries in a notification), max_job_bytes (no further job is assigned once the assigned
--       jobs and the turns that they name have this size), only_listed (1 if only jobs of the following models and
--       of no model may begin, because the worker's models file lists no other; 0 otherwise),
--       model_limits... (four for each model: its name; how many more of its jobs may begin, -1 means no limit; the
--       requests and the tokens per minute that its provider allows, 0 means no limit)
-- Returns {left, grant...}; `left` is NOTHING, BLOCKED or MORE, as below; a grant is {id, job, attempt, failures, cancel, reason, waited ms, log length, queue_name,
--         steers, checkpoint, 1 if Redis may have lost entries since the checkpoint or 0, trace, ms in the queue, ms of a lost attempt}
-- May be repeated: a repeated claim returns the same jobs, as long as the claim still holds these jobs.
-- @include STRUCTURE_TTL PROMOTE_BOUND MAX_CLAIMED LONG_WAIT OVERTAKEN_BOUND SUBMITTED ID_LENGTH now fields with_step
-- @include waiting_of rank_of model_of is_readable bury grant notify push allowance allows spend ready_of queue_up end_wait
-- @include make_idle count_running lease hold promote
local time = now()
count = math.min(tonumber(count), MAX_CLAIMED)

-- Returns the fields of the job with this id. Returns nil if `id` is not a valid id, or its key is not a hash.
local function record(id)
  if #id ~= ID_LENGTH or not string.find(id, '^resp_%x+$') then return nil end
  local names = { 'status', 'claim', 'owner', 'job', 'tokens', 'attempt', 'failures', 'cancel', 'reason', 'submitted',
    'queue_name', 'begins', 'context_bytes', 'steers', 'checkpoint', 'history', 'steps', 'trace', 'requeued' }
  local values, job = redis.pcall('HMGET', prefix .. 'job:' .. id, unpack(names)), {}
  if values.err then return nil end
  for index, name in ipairs(names) do job[name] = values[index] or nil end
  return job
end

-- What the claim has left: no waiting job, only jobs that the limits of their models do not allow now or whose models
-- the worker does not serve, or jobs that the next claim may return.
local NOTHING, BLOCKED, MORE = 0, 1, 2

-- Returns the reply. Unless the next claim may return further jobs, adds the worker to the idle workers. Because the
-- script is atomic, a job is either found by a claim or wakes an idle worker.
local function reply(left, grants)
  if worker ~= '' and left ~= MORE then
    local idle_workers = prefix .. 'idle_workers'
    if redis.call('ZADD', idle_workers, time, worker) == 1 then redis.call('PEXPIRE', idle_workers, STRUCTURE_TTL) end
  end
  return { left, unpack(grants) }
end

local before = redis.call('GET', claimed_key)
if before then
  local again = {}
  for id in string.gmatch(before, '%S+') do
    local job = record(id)
    if job and job.status == 'running' and job.claim == claim then
      again[#again + 1] = grant(prefix, id, job, time)
    end
  end
  return reply(MORE, again)
end

-- Jobs whose retry is due return to the queue here. `rescue` does the same, but only at intervals.
local found = redis.call('LRANGE', queues_key, 0, -1)
local retries = redis.call('EXISTS', prefix .. 'delayed') == 1
if retries then
  promote(prefix, time, PROMOTE_BOUND)
  found = redis.call('LRANGE', queues_key, 0, -1)
end
local queues = { unpack(found) }
if #queues == 0 then return reply(NOTHING, {}) end

-- Reads the virtual time of each queue, and the statistics of earlier claims.
local virtual_times = {}
for index, queue_name in ipairs(queues) do virtual_times[index] = '~virtual_time|' .. queue_name end
local noted = fields(prefix .. 'numbers', '~last', '~pace', '~busy', '~overtaken', '~started', unpack(virtual_times))
local overtaken = tonumber(noted['~overtaken'] or 0)

local limits = {}
for index = 1, #model_limits, 4 do
  limits[model_limits[index]] = { tonumber(model_limits[index + 1]), tonumber(model_limits[index + 2]), tonumber(model_limits[index + 3]) }
end
local models = {}
local function open(queue_name)
  if not is_readable(queue_name) then return false end
  local model = model_of(queue_name)
  if only_listed == '1' and model ~= '' and not limits[model] then return false end
  models[model] = models[model] or allowance(prefix, model, time, unpack(limits[model] or { -1, 0, 0 }))
  return allows(models[model])
end

-- Returns the state of a tenant during this claim: its number of running jobs and their limit, its weight, the
-- lengths of its waiting lists, and the leases of the jobs that this claim assigns.
local tenants = {}
local function tenant_by(name)
  if not tenants[name] then
    local f = redis.call('HMGET', prefix .. 'tenant:' .. name, 'running', 'weight')
    local most = tonumber(f[1] or tenant_running)
    tenants[name] = { most = most, weight = tonumber(f[2] or 1), waiting = {}, leases = {},
      running = most > 0 and count_running(prefix, name, time) or 0 }
  end
  return tenants[name]
end

-- The schedule of a queue has its virtual time, the next tenant with its finish tag, and the finish tag of the
-- tenant after that. While the same tenant remains the next one, its finish tag changes only in the schedule. The
-- script writes the tag to Redis once, when another tenant is next or at the end.
local schedules = {}
local function write_finish_tag(schedule)
  if schedule.tenant and schedule.moved then redis.call('ZADD', schedule.ready, schedule.finish_tag, schedule.tenant) end
end
local function schedule_of(queue_name)
  schedules[queue_name] = schedules[queue_name] or
    { ready = ready_of(prefix, queue_name), virtual_time = tonumber(noted['~virtual_time|' .. queue_name] or 0) }
  local schedule = schedules[queue_name]
  if not schedule.tenant or schedule.finish_tag >= schedule.behind then
    write_finish_tag(schedule)
    local two = redis.call('ZRANGE', schedule.ready, 0, 1, 'WITHSCORES')
    schedule.tenant, schedule.finish_tag, schedule.behind = two[1], tonumber(two[2]), tonumber(two[4] or math.huge)
  end
  return schedule
end

-- Returns the time at which the next job of a queue was submitted, or the current time if the queue has no job.
local function since(queue_name)
  local tenant = schedule_of(queue_name).tenant
  local id = tenant and redis.call('LINDEX', waiting_of(prefix, queue_name, tenant), 0)
  local job = id and record(id)
  return tonumber(job and job.submitted or time)
end

-- Returns the index of the queue to serve next, or nil if no queue may be served.
local function choose()
  local best, oldest, at
  for index, queue_name in ipairs(queues) do
    if open(queue_name) and (not best or rank_of(queue_name) < rank_of(queues[best])) then
      best = index
    end
  end
  for index, queue_name in ipairs(queues) do
    if open(queue_name) and rank_of(queue_name) > rank_of(queues[best]) then
      local submitted = since(queue_name)
      if submitted < (at or time - LONG_WAIT) then oldest, at = index, submitted end
    end
  end
  if not oldest then return best end
  overtaken = overtaken + 1
  if overtaken <= OVERTAKEN_BOUND then return best end
  overtaken = 0
  return oldest
end

-- Removes the first id from a tenant's waiting list. Returns the id, and true if the list contains further ids.
local function take(tenant, queue_name, waiting)
  local id = redis.call('LPOP', waiting)
  local left = tenant.waiting[queue_name]
  if not left then
    left = redis.call('LLEN', waiting)
    if left > 0 then redis.call('PEXPIRE', waiting, STRUCTURE_TTL) end
  elseif id then
    left = left - 1
  end
  tenant.waiting[queue_name] = left
  return id, left > 0
end

-- Appends the first entry of the first attempt, which the submission stored in the job. Appends nothing if the log
-- has other entries than those of the submission.
local function begin(id, job)
  local name, log = prefix .. 'job:' .. id, prefix .. 'log:' .. id
  redis.call('HDEL', name, 'begins')
  job.length = push(log, SUBMITTED, { job.begins })
  if not job.length then return end
  notify(prefix .. 'notifications:' .. id, SUBMITTED, { job.begins }, tonumber(max_bytes))
end

local grants, ids, job_bytes = {}, {}, 0
local begun = {} -- the ids of the assigned jobs, by their queues
local function hand_out(id, job, tenant, start_tag, tokens, alone)
  if job.begins then begin(id, job) end
  -- With a checkpoint, the worker continues the same attempt.
  if not job.checkpoint then
    job.attempt = (job.attempt or 0) + 1
    if tonumber(job.failures or 0) > 0 then redis.call('HSET', prefix .. 'job:' .. id, 'earlier_failures', job.failures) end
  end
  redis.call('HSET', prefix .. 'job:' .. id, 'status', 'running', 'claim', claim, 'charged', tokens, 'start_tag', start_tag,
    'attempt', job.attempt, 'steps', with_step(job.steps, 'claimed', time, job.attempt, worker),
    'alone', alone and 1 or 0)
  local queue_name = job.queue_name or ''
  begun[queue_name] = begun[queue_name] or {}
  table.insert(begun[queue_name], id)
  tenant.running = tenant.running + 1
  tenant.leases[#tenant.leases + 1], tenant.leases[#tenant.leases + 2] = time + lease_ms, id
  grants[#grants + 1], ids[#ids + 1] = grant(prefix, id, job, time), id
  job_bytes = job_bytes + #(job.job or '') + (job.context_bytes or 0)
end

-- Removes the next entry from a tenant's waiting list. Assigns its job, if the job can run, and books its tokens.
local function serve(queue_name, schedule, tenant)
  local id, more = take(tenant, queue_name, waiting_of(prefix, queue_name, schedule.tenant))
  local job = id and record(id)
  local start_tag, tokens = math.max(schedule.finish_tag, schedule.virtual_time), 1
  if job and job.status == 'queued' and not (retries and redis.call('ZSCORE', prefix .. 'delayed', id)) then
    tokens = math.max(1, tonumber(job.tokens or 0))
    hand_out(id, job, tenant, start_tag, tokens, schedule.behind == math.huge)
    spend(prefix, model_of(queue_name), time, models[model_of(queue_name)], tokens)
  elseif id and not job then
    bury(prefix, id)
  end -- in all other cases, the entry is stale: according to its hash, the job runs, has ended or waits for a retry
  -- The tenant pays one token for a stale entry, so a tenant with many stale entries does not delay other tenants.
  schedule.virtual_time, schedule.finish_tag, schedule.moved = start_tag, start_tag + tokens / tenant.weight, true
  if not more then
    make_idle(prefix, queue_name, schedule.tenant, schedule.finish_tag, schedule.virtual_time)
    schedule.tenant = nil
  end
end

-- A queue without ready tenants leaves the list, so that no worker claims from it in vain.
local left = MORE
for _ = 1, count + 100 do -- one call handles at most 100 stale entries and held back tenants
  if #grants == count or job_bytes >= tonumber(max_job_bytes) then break end
  local index = choose()
  if not index then
    left = #queues > 0 and BLOCKED or NOTHING
    break
  end
  local queue_name = table.remove(queues, index)
  local schedule = schedule_of(queue_name)
  local tenant = schedule.tenant and tenant_by(schedule.tenant)
  if tenant and tenant.most > 0 and tenant.running >= tenant.most then
    hold(prefix, queue_name, schedule.tenant, schedule.finish_tag)
    schedule.tenant = nil
  elseif tenant then
    serve(queue_name, schedule, tenant)
  end
  if schedule.tenant or schedule.behind < math.huge then queues[#queues + 1] = queue_name end
end
local busy = #queues > 0 and 1 or 0

local noting = {}
for queue_name, schedule in pairs(schedules) do
  write_finish_tag(schedule)
  if schedule.tenant then redis.call('PEXPIRE', schedule.ready, STRUCTURE_TTL) end
  if schedule.moved then noting[#noting + 1], noting[#noting + 2] = '~virtual_time|' .. queue_name, schedule.virtual_time end
end
for name, tenant in pairs(tenants) do
  if #tenant.leases > 0 then lease(prefix, name, tenant.leases) end
end
if table.concat(queues, '\n') ~= table.concat(found, '\n') or #queues ~= #found then
  redis.call('DEL', queues_key)
  for _, queue_name in ipairs(queues) do queue_up(queues_key, queue_name) end
end
for queue_name, began in pairs(begun) do end_wait(prefix, queue_name, unpack(began)) end
if #ids > 0 then
  redis.call('SET', claimed_key, table.concat(ids, ' '), 'PX', lease_ms)
  -- The pace is the average number of ms between two assigned jobs while the queue is never empty. Estimates of
  -- waiting times use the pace.
  local pace = noted['~pace']
  if noted['~last'] and noted['~busy'] == '1' then
    local step = math.min(math.max(0, time - noted['~last']) / #ids, 600000)
    pace = pace and pace * 0.8 + step * 0.2 or step
  end
  local started = (noted['~started'] or 0) + #ids
  for name, value in pairs({ last = time, pace = pace, busy = busy, overtaken = overtaken, started = started }) do
    noting[#noting + 1], noting[#noting + 2] = '~' .. name, value
  end
end
if #noting > 0 then
  redis.call('HSET', prefix .. 'numbers', unpack(noting))
  if not noted['~last'] then redis.call('PEXPIRE', prefix .. 'numbers', STRUCTURE_TTL) end
end
return reply(left, grants)
