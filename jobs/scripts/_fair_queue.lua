-- Implements start-time fair queueing, by which the tenants share each queue. This file stores the tags of the
-- tenants. `claim.lua` chooses the next tenant and books its tokens. This file may use the functions of _shared.lua
-- and _provider.lua.
--
-- The finish tag of a tenant in a queue is the number of tokens that the tenant used in this queue, divided by its
-- weight. The tenant with the lowest finish tag is served next. The start tag of its job is this finish tag, or the
-- virtual time of the queue if that is higher. The new finish tag is the start tag plus the job's tokens divided by
-- the weight. A claim books estimated tokens, and the end of the job corrects the finish tag.
--
-- The virtual time of a queue is the start tag of the job that was served last. A new or returning tenant gets at
-- least the virtual time as its tag. So it is served soon, but its idle time gives it no advantage.
--
-- While only one tenant has waiting jobs, the virtual time follows the estimates of its jobs, and so do the tags of
-- tenants that come later. If these estimates were corrected later in the tenant's own tag only, it would get a credit
-- or a debt of all its running jobs. So they are not corrected, except that of the job that was served last.

local IDLE_BOUND = 10000 -- maximum number of idle tenants whose finish tags a queue stores

-- Returns the tenant of an owner. An owner has the form `tenant/subject`, or is a single word if the server requires
-- no authentication.
local function tenant_of(owner) return string.match(owner, '^([^/]+)/') or owner end

local function ready_of(prefix, queue_name) return of_queue(prefix, 'ready', queue_name) end
local function idle_of(prefix, queue_name) return of_queue(prefix, 'idle', queue_name) end
local function since_of(prefix, queue_name) return of_queue(prefix, 'since', queue_name) end
local function running_of(prefix, tenant) return prefix .. 'running:' .. tenant end
local function held_of(prefix, tenant) return prefix .. 'held:' .. tenant end

local function virtual_time_of(prefix, queue_name)
  return tonumber(redis.call('HGET', prefix .. 'numbers', '~virtual_time|' .. queue_name) or 0)
end

local function weight_of(prefix, tenant)
  return tonumber(redis.call('HGET', prefix .. 'tenant:' .. tenant, 'weight') or 1)
end

-- Records that a job waits in a queue since its submission. A job whose retry is delayed does not wait in a queue.
local function begin_wait(prefix, queue_name, id, submitted)
  local since = since_of(prefix, queue_name)
  if redis.call('ZADD', since, submitted, id) == 0 or redis.call('ZCARD', since) > 1 then return end
  redis.call('PEXPIRE', since, STRUCTURE_TTL)
  if redis.call('SADD', prefix .. 'queue_names', queue_name) == 1 then
    redis.call('PEXPIRE', prefix .. 'queue_names', STRUCTURE_TTL)
  end
end

-- Records that jobs no longer wait in a queue.
local function end_wait(prefix, queue_name, ...) redis.call('ZREM', since_of(prefix, queue_name), ...) end

-- Appends a value to a list and returns the new length. If the list was empty, its key is new, so the TTL is set.
local function queue_up(list, what)
  local length = redis.call('RPUSH', list, what)
  if length == 1 then redis.call('PEXPIRE', list, STRUCTURE_TTL) end
  return length
end

-- Wakes one idle worker: the one whose last claim was the earliest. A wake-up removes the worker from the set of idle
-- workers, and the worker's next claim adds it again. So a job wakes one worker, however many are idle. A worker that
-- receives no messages has ended or lost its connection, so the next one is woken.
local function wake(prefix)
  repeat
    local worker = redis.call('ZPOPMIN', prefix .. 'idle_workers')[1]
  until not worker or redis.call('SPUBLISH', prefix .. 'wake:' .. worker, '') > 0
end

-- Adds a queue to the list of queues with waiting jobs, unless the list already contains the queue.
local function open_queue(prefix, queue_name)
  local queues = prefix .. 'queues'
  if not redis.call('LPOS', queues, queue_name) then queue_up(queues, queue_name) end
end

-- Makes a tenant ready in a queue: adds it with its finish tag, or with the virtual time if that is higher.
local function add_ready(prefix, queue_name, tenant, finish_tag)
  local ready = ready_of(prefix, queue_name)
  redis.call('ZADD', ready, math.max(finish_tag, virtual_time_of(prefix, queue_name)), tenant)
  redis.call('PEXPIRE', ready, STRUCTURE_TTL)
  open_queue(prefix, queue_name)
end

-- Makes a tenant ready in a queue, unless it is ready or held back. A tenant that is held back becomes ready when one
-- of its jobs ends.
local function ensure_ready(prefix, queue_name, tenant)
  if redis.call('ZSCORE', ready_of(prefix, queue_name), tenant) then return end
  if redis.call('HEXISTS', held_of(prefix, tenant), queue_name) == 1 then return end
  -- The tenant's entry in the set of idle tenants remains, but no script reads the entry while the tenant is ready.
  add_ready(prefix, queue_name, tenant, tonumber(redis.call('ZSCORE', idle_of(prefix, queue_name), tenant) or 0))
end

-- Makes a tenant idle in a queue, because the tenant has no more waiting jobs there.
local function make_idle(prefix, queue_name, tenant, finish_tag, virtual_time)
  local idle = idle_of(prefix, queue_name)
  redis.call('ZREM', ready_of(prefix, queue_name), tenant)
  if redis.call('ZADD', idle, finish_tag, tenant) == 0 then return end
  redis.call('PEXPIRE', idle, STRUCTURE_TTL)
  -- Finish tags up to the virtual time no longer have an effect, so they are removed. If there are no such tags, the
  -- lowest tags are removed until IDLE_BOUND tags remain.
  if redis.call('ZREMRANGEBYSCORE', idle, '-inf', virtual_time) == 0 then
    redis.call('ZREMRANGEBYRANK', idle, 0, -IDLE_BOUND - 1)
  end
end

-- Replaces the estimated tokens of an ended job by the actual tokens, in its tenant's finish tag and in the token
-- bucket of its model. `job` is a table with the fields that this function reads.
local function settle(prefix, job, tenant, tokens)
  if not job.charged or tokens < 0 then return end
  local queue_name, model = job.queue_name or '', model_of(job.queue_name or '')
  if model ~= '' and redis.call('EXISTS', pace_of(prefix, model)) == 1 then
    redis.call('HINCRBYFLOAT', pace_of(prefix, model), 'tokens', job.charged - tokens)
  end
  if tokens == tonumber(job.charged) then return end
  if job.alone == '1' and tonumber(job.start_tag) < virtual_time_of(prefix, queue_name) then return end
  local weight = weight_of(prefix, tenant)
  local more = (tokens - job.charged) / weight
  if redis.call('ZADD', ready_of(prefix, queue_name), 'XX', 'INCR', more, tenant) then return end
  if redis.call('HEXISTS', held_of(prefix, tenant), queue_name) == 1 then
    redis.call('HINCRBYFLOAT', held_of(prefix, tenant), queue_name, more)
    return
  end
  local idle = idle_of(prefix, queue_name)
  if redis.call('ZADD', idle, 'XX', 'INCR', more, tenant) then return end
  local finish_tag = job.start_tag + tokens / weight
  if finish_tag > virtual_time_of(prefix, queue_name) then
    redis.call('ZADD', idle, finish_tag, tenant)
    redis.call('PEXPIRE', idle, STRUCTURE_TTL)
  end
end

-- Appends an id to its tenant's waiting list, makes the tenant ready, and returns the number of the job.
-- Numbers in a waiting list are ascending, so a job's queue position is its number minus that of the first job in the
-- list. If an id that should still be waiting has a lower number than the first id, Redis has lost its entry.
local function enqueue(prefix, tenant, queue_name, id, submitted)
  local numbers, waiting = prefix .. 'numbers', waiting_of(prefix, queue_name, tenant)
  local number = redis.call('HINCRBY', numbers, queue_name == '' and tenant or queue_name .. '|' .. tenant, 1)
  if number == 1 then redis.call('PEXPIRE', numbers, STRUCTURE_TTL) end
  queue_up(waiting, id)
  begin_wait(prefix, queue_name, id, submitted)
  ensure_ready(prefix, queue_name, tenant)
  wake(prefix)
  return number
end

-- Inserts an id at the front of its tenant's waiting list, makes the tenant ready, and returns the job's number.
local function enqueue_first(prefix, tenant, queue_name, id, submitted)
  local waiting, first = waiting_of(prefix, queue_name, tenant), nil
  repeat
    local head = redis.call('LINDEX', waiting, 0)
    if not head then return enqueue(prefix, tenant, queue_name, id, submitted) end
    first = redis.call('HGET', prefix .. 'job:' .. head, 'number')
    -- If the first job in the list has no number, it was deleted. Its entry is removed, because the numbers of a list
    -- must ascend.
    if not first then redis.call('LPOP', waiting) end
  until first
  redis.call('LPUSH', waiting, id)
  redis.call('PEXPIRE', waiting, STRUCTURE_TTL)
  begin_wait(prefix, queue_name, id, submitted)
  ensure_ready(prefix, queue_name, tenant)
  wake(prefix)
  return first - 1
end

-- Returns the number of running responses of a tenant.
local function count_running(prefix, tenant, time)
  local running = running_of(prefix, tenant)
  redis.call('ZREMRANGEBYSCORE', running, '-inf', time)
  return redis.call('ZCARD', running)
end

-- Begins or renews leases of a tenant. `leases` has two values for each lease: the time at which the lease ends, and
-- the id of the response. A renewal never shortens a lease, and adds no id, so it does not set the TTLs again. A
-- response with a lease counts as one of the tenant's running responses, but not after the end of its lease.
local function lease(prefix, tenant, leases)
  for _, key in ipairs({ prefix .. 'leases', running_of(prefix, tenant) }) do
    local added = 0
    for from = 1, #leases, 1000 do
      added = added + redis.call('ZADD', key, 'GT', unpack(leases, from, math.min(from + 999, #leases)))
    end
    if added > 0 then redis.call('PEXPIRE', key, STRUCTURE_TTL) end
  end
end

-- Holds a tenant back in a queue, because the tenant has reached its limit of running jobs.
local function hold(prefix, queue_name, tenant, finish_tag)
  redis.call('ZREM', ready_of(prefix, queue_name), tenant)
  redis.call('HSET', held_of(prefix, tenant), queue_name, finish_tag)
  redis.call('PEXPIRE', held_of(prefix, tenant), STRUCTURE_TTL)
end

-- Makes a tenant ready in every queue in which it was held back. If the tenant is still at its limit, the next claim
-- holds it back again.
local function release(prefix, tenant)
  local held = redis.call('HGETALL', held_of(prefix, tenant))
  if #held == 0 then return end
  for index = 1, #held, 2 do add_ready(prefix, held[index], tenant, tonumber(held[index + 1])) end
  redis.call('DEL', held_of(prefix, tenant))
  wake(prefix)
end

-- Ends a lease. Its response no longer counts as running, so another response of the tenant may run.
local function unlease(prefix, tenant, id)
  redis.call('ZREM', prefix .. 'leases', id)
  if redis.call('ZREM', running_of(prefix, tenant), id) == 1 then release(prefix, tenant) end
end

-- Moves up to `limit` jobs whose retry is due to the front of their tenants' waiting lists. Returns the number of ids
-- that it removed from the set of delayed jobs.
local function promote(prefix, time, limit)
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'delayed', '-inf', time, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    redis.call('ZREM', prefix .. 'delayed', id)
    local name = prefix .. 'job:' .. id
    local job = fields(name, 'status', 'owner', 'queue_name', 'reason', 'submitted')
    if job.status == 'queued' then
      local number = enqueue_first(prefix, tenant_of(job.owner), job.queue_name or '', id, job.submitted)
      redis.call('HSET', name, 'number', number)
      notify_queued(prefix .. 'notifications:' .. id, number, 0, job.reason or '')
    end
  end
  return #due
end
