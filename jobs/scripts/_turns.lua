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

local function wake(prefix)
  if redis.call('LLEN', prefix .. 'wake') < WAKE_BOUND then
    redis.call('RPUSH', prefix .. 'wake', '1')
    redis.call('PEXPIRE', prefix .. 'wake', STRUCTURE_TTL)
  end
end

-- Puts a tenant in line. A key that was emptied is a new one: its TTL is set again.
local function join(prefix, lane, tenant, account)
  local turns, lanes = turns_of(prefix, lane), prefix .. 'lanes'
  redis.call('ZADD', turns, math.max(account, clock_of(prefix, lane)), tenant)
  redis.call('PEXPIRE', turns, STRUCTURE_TTL)
  if not redis.call('LPOS', lanes, lane) then redis.call('RPUSH', lanes, lane) end
  redis.call('PEXPIRE', lanes, STRUCTURE_TTL)
end

-- Puts a tenant in line where it is not yet; one that is held back stays so until one of its answers ends.
local function await_turn(prefix, lane, tenant)
  if redis.call('HEXISTS', held_of(prefix, tenant), lane) == 1 then return end
  local account = redis.call('ZSCORE', turns_of(prefix, lane), tenant)
  if account and redis.call('LPOS', prefix .. 'lanes', lane) then return end
  local spent = spent_of(prefix, lane)
  account = account or redis.call('ZSCORE', spent, tenant) or 0
  redis.call('ZREM', spent, tenant)
  join(prefix, lane, tenant, tonumber(account))
end

-- Books what a tenant takes from a lane, in tokens; answers its account before.
local function charge(prefix, lane, tenant, account, tokens)
  local clock = clock_of(prefix, lane)
  local from = math.max(account, clock)
  local after = from + tokens / weight_of(prefix, tenant)
  redis.call('HSET', prefix .. 'numbers', '~clock|' .. lane, from)
  redis.call('PEXPIRE', prefix .. 'numbers', STRUCTURE_TTL)
  if redis.call('LLEN', ready_of(prefix, lane, tenant)) > 0 then
    redis.call('ZADD', turns_of(prefix, lane), after, tenant)
  else
    local spent = spent_of(prefix, lane)
    redis.call('ZREM', turns_of(prefix, lane), tenant)
    redis.call('ZADD', spent, after, tenant)
    redis.call('PEXPIRE', spent, STRUCTURE_TTL)
    -- What the clock has passed says nothing more.
    redis.call('ZREMRANGEBYSCORE', spent, '-inf', from)
    redis.call('ZREMRANGEBYRANK', spent, 0, -ACCOUNTS_BOUND - 1)
  end
  return from
end

-- Puts right what a claim has booked for a job, now that its tokens are known.
local function settle(prefix, id, tokens)
  local f = redis.call('HMGET', prefix .. 'job:' .. id, 'owner', 'lane', 'charged', 'turn')
  if not f[3] or tokens < 0 then return end
  local tenant, lane = tenant_of(f[1]), f[2] or ''
  local weight = weight_of(prefix, tenant)
  local more = (tokens - f[3]) / weight
  local pace = pace_of(prefix, model_of(lane))
  if redis.call('EXISTS', pace) == 1 then redis.call('HINCRBYFLOAT', pace, 'tokens', f[3] - tokens) end
  if redis.call('ZSCORE', turns_of(prefix, lane), tenant) then
    redis.call('ZINCRBY', turns_of(prefix, lane), more, tenant)
  elseif redis.call('HEXISTS', held_of(prefix, tenant), lane) == 1 then
    redis.call('HINCRBYFLOAT', held_of(prefix, tenant), lane, more)
  else
    local spent = spent_of(prefix, lane)
    local account = (redis.call('ZSCORE', spent, tenant) or f[4] + f[3] / weight) + more
    redis.call('ZADD', spent, account, tenant)
    redis.call('PEXPIRE', spent, STRUCTURE_TTL)
    redis.call('ZREMRANGEBYSCORE', spent, '-inf', clock_of(prefix, lane))
  end
end

-- Puts an id into its tenant's list, and the tenant in line.
-- Numbers in a list ascend, so a place is a difference and a lost id is one that was overtaken.
local function enqueue(prefix, owner, id, front)
  local lane, numbers = redis.call('HGET', prefix .. 'job:' .. id, 'lane') or '', prefix .. 'numbers'
  local tenant = tenant_of(owner)
  local ready = ready_of(prefix, lane, tenant)
  local head = front and redis.call('LINDEX', ready, 0)
  local first = head and redis.call('HGET', prefix .. 'job:' .. head, 'number')
  while head and not first do -- deleted meanwhile: without a number it would break the order
    redis.call('LPOP', ready)
    head = redis.call('LINDEX', ready, 0)
    first = head and redis.call('HGET', prefix .. 'job:' .. head, 'number')
  end
  local number
  if first then
    number = first - 1
    redis.call('LPUSH', ready, id)
  else
    number = redis.call('HINCRBY', numbers, lane == '' and tenant or lane .. '|' .. tenant, 1)
    redis.call('RPUSH', ready, id)
  end
  redis.call('HSET', prefix .. 'job:' .. id, 'number', number)
  redis.call('PEXPIRE', ready, STRUCTURE_TTL)
  redis.call('PEXPIRE', numbers, STRUCTURE_TTL)
  await_turn(prefix, lane, tenant)
  wake(prefix)
  return number
end

-- A lease is also a place among the running answers of a tenant, which ends with it at the latest.
local function lease(prefix, id, till)
  redis.call('ZADD', prefix .. 'leases', till, id)
  redis.call('PEXPIRE', prefix .. 'leases', STRUCTURE_TTL)
  local running = running_of(prefix, tenant_of(redis.call('HGET', prefix .. 'job:' .. id, 'owner') or ''))
  redis.call('ZADD', running, till, id)
  redis.call('PEXPIRE', running, STRUCTURE_TTL)
end

-- How many answers of a tenant run.
local function count_running(prefix, tenant, time)
  local running = running_of(prefix, tenant)
  redis.call('ZREMRANGEBYSCORE', running, '-inf', time)
  return redis.call('ZCARD', running)
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
local function unlease(prefix, id)
  redis.call('ZREM', prefix .. 'leases', id)
  local tenant = tenant_of(redis.call('HGET', prefix .. 'job:' .. id, 'owner') or '')
  if redis.call('ZREM', running_of(prefix, tenant), id) == 1 then release(prefix, tenant) end
end

-- Moves up to `limit` retries that are due to the front of their tenants' lists; answers how many.
local function promote(prefix, time, limit)
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'delayed', '-inf', time, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    redis.call('ZREM', prefix .. 'delayed', id)
    local f = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'owner', 'reason')
    if f[1] == 'queued' then
      ring_queued(prefix .. 'bell:' .. id, enqueue(prefix, f[2], id, true), 0, f[3] or '')
    end
  end
  return #due
end
