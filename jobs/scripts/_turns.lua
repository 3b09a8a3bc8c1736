-- Whose turn it is; may name what is in _shared.lua and _provider.lua.
--
-- In each lane a tenant has an account: the tokens that it used, divided by its weight. Whoever has the
-- lowest is served next, which is deficit round robin without its rounds: a turn costs the same however
-- many wait. A claim books an estimate, and the end of the answer puts it right.
--
-- The clock of a lane is the account of whoever was served last. Who comes, or comes back, begins at
-- the clock at least: nobody saves up by staying away, and a newcomer is the next one to be served.

local USUAL_TOKENS = 500 -- of what an older program has queued without an estimate
local ACCOUNTS_BOUND = 10000 -- of tenants that have nothing waiting, in a lane

-- An owner is `tenant/subject`, or one word where nobody has to say who they are.
local function tenant_of(owner) return string.match(owner, '^([^/]+)/') or owner end

local function turns_of(prefix, lane) return of_lane(prefix, 'turns', lane) end
local function spent_of(prefix, lane) return of_lane(prefix, 'spent', lane) end
local function running_of(prefix, tenant) return prefix .. 'running:' .. tenant end
local function held_of(prefix, tenant) return prefix .. 'held:' .. tenant end

local function clock_of(prefix, lane)
  return tonumber(redis.call('HGET', prefix .. 'numbers', '~clock|' .. lane) or 0)
end

local function weight_of(prefix, tenant)
  return tonumber(redis.call('HGET', prefix .. 'tenant:' .. tenant, 'weight') or 1)
end

-- Pushes to the end of a list. One that was empty is a new key: its TTL is set again.
local function queue_up(list, what)
  local length = redis.call('RPUSH', list, what)
  if length == 1 then redis.call('PEXPIRE', list, STRUCTURE_TTL) end
  return length
end

local function wake(prefix)
  if redis.call('LLEN', prefix .. 'wake') < WAKE_BOUND then queue_up(prefix .. 'wake', '1') end
end

-- Says that something waits in a lane.
local function open_lane(prefix, lane)
  local lanes = prefix .. 'lanes'
  if not redis.call('LPOS', lanes, lane) then queue_up(lanes, lane) end
end

-- Puts a tenant in line.
local function join(prefix, lane, tenant, account)
  local turns = turns_of(prefix, lane)
  redis.call('ZADD', turns, math.max(account, clock_of(prefix, lane)), tenant)
  redis.call('PEXPIRE', turns, STRUCTURE_TTL)
  open_lane(prefix, lane)
end

-- Puts a tenant in line where it is not yet; one that is held back stays so until one of its answers ends.
local function await_turn(prefix, lane, tenant)
  if redis.call('ZSCORE', turns_of(prefix, lane), tenant) then return end
  if redis.call('HEXISTS', held_of(prefix, tenant), lane) == 1 then return end
  -- What it had spent stays there, and counts for nothing while it is in line.
  join(prefix, lane, tenant, tonumber(redis.call('ZSCORE', spent_of(prefix, lane), tenant) or 0))
end

-- Takes a tenant out of the line of a lane, in which it has nothing waiting any more.
local function leave(prefix, lane, tenant, account, clock)
  local spent = spent_of(prefix, lane)
  redis.call('ZREM', turns_of(prefix, lane), tenant)
  if redis.call('ZADD', spent, account, tenant) == 0 then return end
  redis.call('PEXPIRE', spent, STRUCTURE_TTL)
  -- What the clock has passed says nothing more. Where it has passed nothing there may be too many.
  if redis.call('ZREMRANGEBYSCORE', spent, '-inf', clock) == 0 then
    redis.call('ZREMRANGEBYRANK', spent, 0, -ACCOUNTS_BOUND - 1)
  end
end

-- Puts right what a claim has booked for a job, now that its tokens are known. `job` has the fields that
-- are named here, and an owner.
local function settle(prefix, job, tenant, tokens)
  if not job.charged or tokens < 0 then return end
  local lane, model = job.lane or '', model_of(job.lane or '')
  if model ~= '' and redis.call('EXISTS', pace_of(prefix, model)) == 1 then
    redis.call('HINCRBYFLOAT', pace_of(prefix, model), 'tokens', job.charged - tokens)
  end
  if tokens == tonumber(job.charged) then return end
  local weight = weight_of(prefix, tenant)
  local more = (tokens - job.charged) / weight
  if redis.call('ZADD', turns_of(prefix, lane), 'XX', 'INCR', more, tenant) then return end
  if redis.call('HEXISTS', held_of(prefix, tenant), lane) == 1 then
    redis.call('HINCRBYFLOAT', held_of(prefix, tenant), lane, more)
    return
  end
  local spent = spent_of(prefix, lane)
  if redis.call('ZADD', spent, 'XX', 'INCR', more, tenant) then return end
  local account = job.turn + tokens / weight
  if account > clock_of(prefix, lane) then
    redis.call('ZADD', spent, account, tenant)
    redis.call('PEXPIRE', spent, STRUCTURE_TTL)
  end
end

-- Puts an id into its tenant's list, and the tenant in line; answers the number that the job has then.
-- Numbers in a list ascend, so a place is a difference and a lost id is one that was overtaken.
local function enqueue(prefix, tenant, lane, id)
  local numbers, ready = prefix .. 'numbers', ready_of(prefix, lane, tenant)
  local number = redis.call('HINCRBY', numbers, lane == '' and tenant or lane .. '|' .. tenant, 1)
  if number == 1 then redis.call('PEXPIRE', numbers, STRUCTURE_TTL) end
  queue_up(ready, id)
  await_turn(prefix, lane, tenant)
  wake(prefix)
  return number
end

-- The same, before all others in the list.
local function enqueue_first(prefix, tenant, lane, id)
  local ready, first = ready_of(prefix, lane, tenant), nil
  repeat
    local head = redis.call('LINDEX', ready, 0)
    if not head then return enqueue(prefix, tenant, lane, id) end
    first = redis.call('HGET', prefix .. 'job:' .. head, 'number')
    -- Deleted meanwhile: without a number it would break the order.
    if not first then redis.call('LPOP', ready) end
  until first
  redis.call('LPUSH', ready, id)
  redis.call('PEXPIRE', ready, STRUCTURE_TTL)
  await_turn(prefix, lane, tenant)
  wake(prefix)
  return first - 1
end

-- How many answers of a tenant run.
local function count_running(prefix, tenant, time)
  local running = running_of(prefix, tenant)
  redis.call('ZREMRANGEBYSCORE', running, '-inf', time)
  return redis.call('ZCARD', running)
end

-- Begins or renews leases of a tenant: the time at which one ends, and the id, of each. It never moves
-- back. A lease is also a place among the running answers of its tenant, which ends with it at the latest.
local function lease(prefix, tenant, leases)
  for _, key in ipairs({ prefix .. 'leases', running_of(prefix, tenant) }) do
    for from = 1, #leases, 1000 do
      redis.call('ZADD', key, 'GT', unpack(leases, from, math.min(from + 999, #leases)))
    end
    redis.call('PEXPIRE', key, STRUCTURE_TTL)
  end
end

-- Takes a tenant out of the line of a lane: as many of its answers run as may.
local function hold(prefix, lane, tenant, account)
  redis.call('ZREM', turns_of(prefix, lane), tenant)
  redis.call('HSET', held_of(prefix, tenant), lane, account)
  redis.call('PEXPIRE', held_of(prefix, tenant), STRUCTURE_TTL)
end

-- Puts a tenant in line again wherever it was held back; the next claim sees whether it is too early.
local function release(prefix, tenant)
  local held = redis.call('HGETALL', held_of(prefix, tenant))
  if #held == 0 then return end
  for index = 1, #held, 2 do join(prefix, held[index], tenant, tonumber(held[index + 1])) end
  redis.call('DEL', held_of(prefix, tenant))
  wake(prefix)
end

-- Ends a lease: the answer runs no longer, and another one of the tenant may.
local function unlease(prefix, tenant, id)
  redis.call('ZREM', prefix .. 'leases', id)
  if redis.call('ZREM', running_of(prefix, tenant), id) == 1 then release(prefix, tenant) end
end

-- Moves up to `limit` retries that are due to the front of their tenants' lists; answers how many.
local function promote(prefix, time, limit)
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'delayed', '-inf', time, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    redis.call('ZREM', prefix .. 'delayed', id)
    local name = prefix .. 'job:' .. id
    local job = fields(name, 'status', 'owner', 'lane', 'reason')
    if job.status == 'queued' then
      local number = enqueue_first(prefix, tenant_of(job.owner), job.lane or '', id)
      redis.call('HSET', name, 'number', number)
      notify_queued(prefix .. 'notifications:' .. id, number, 0, job.reason or '')
    end
  end
  return #due
end
