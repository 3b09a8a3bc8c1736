#!lua
-- Hands out up to `count` waiting jobs, each under a lease. The higher tier comes first; in a tier
-- models take turns, and for a model the tenant that used least. Who has waited long is overtaken a few
-- times only. A tenant of which as many run as may is taken out of the line until one of them ends.
-- KEYS  lanes, claimed:<token>
-- ARGV  prefix, token, count, lease ms, answers of a tenant that run at once where its settings say
--       nothing (0: any number), (model, how many more of it (-1: any number), requests and tokens a
--       minute that its provider allows (0: any number))...
-- Returns {grant...}; a grant is {id, job, attempt, strikes, cancel, reason, waited ms, log length, lane}
-- May be repeated: the same token is handed the same jobs while it still holds them.
local prefix, token, count, time = ARGV[1], ARGV[2], tonumber(ARGV[3]), now()
local numbers = prefix .. 'numbers'

local before = redis.call('GET', KEYS[2])
if before then
  local again = {}
  for id in string.gmatch(before, '%S+') do
    local f = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'claim')
    if f[1] == 'running' and f[2] == token then
      again[#again + 1] = grant(prefix, id, time)
    end
  end
  return again
end

-- Retries that are due wait again; looking here makes them as punctual as claims are.
promote(prefix, time, PROMOTE_BOUND)

local models = {}
for index = 6, #ARGV, 4 do
  models[ARGV[index]] = allowance(prefix, ARGV[index], time, tonumber(ARGV[index + 1]), tonumber(ARGV[index + 2]),
    tonumber(ARGV[index + 3]))
end
local function open(lane)
  local model = model_of(lane)
  models[model] = models[model] or allowance(prefix, model, time, -1, 0, 0)
  return allows(models[model])
end

-- Lanes in the order of their turns.
local lanes = redis.call('LRANGE', KEYS[1], 0, -1)
if redis.call('EXISTS', turns_of(prefix, '')) + redis.call('EXISTS', prefix .. 'ring') > 0
  and not redis.call('LPOS', KEYS[1], '') then
  lanes[#lanes + 1] = ''
end
-- An older program keeps who waits in a list, `ring`.
for _, lane in ipairs(lanes) do
  for _, tenant in ipairs(redis.call('LPOP', of_lane(prefix, 'ring', lane), 100) or {}) do
    await_turn(prefix, lane, tenant)
  end
end

-- When the next one of a lane was submitted.
local function since(lane)
  local tenant = redis.call('ZRANGE', turns_of(prefix, lane), 0, 0)[1]
  local id = tenant and redis.call('LINDEX', ready_of(prefix, lane, tenant), 0)
  local job = prefix .. 'job:' .. (id or '')
  return tonumber(redis.call('TYPE', job).ok == 'hash' and redis.call('HGET', job, 'submitted') or time)
end

local overtaken = tonumber(redis.call('HGET', numbers, '~overtaken') or 0)

-- The index of the lane that is served next, or nil.
local function choose()
  local best, oldest, at
  for index, lane in ipairs(lanes) do
    if open(lane) and (not best or rank_of(lane) < rank_of(lanes[best])) then
      best = index
    end
  end
  for index, lane in ipairs(lanes) do
    if open(lane) and rank_of(lane) > rank_of(lanes[best]) then
      local submitted = since(lane)
      if submitted < (at or time - LONG_WAIT) then oldest, at = index, submitted end
    end
  end
  if not oldest then return best end
  overtaken = overtaken + 1
  if overtaken <= OVERTAKEN_BOUND then return best end
  overtaken = 0
  return oldest
end

local most = {}
local function full(tenant)
  most[tenant] = most[tenant] or tonumber(redis.call('HGET', prefix .. 'tenant:' .. tenant, 'running') or ARGV[5])
  return most[tenant] > 0 and count_running(prefix, tenant, time) >= most[tenant]
end

local grants, ids, moved = {}, {}, false
for _ = 1, count + 100 do -- a bound on stale entries and on tenants held back in one call
  local index = #grants < count and choose()
  if not index then break end
  local lane = table.remove(lanes, index)
  local turns = turns_of(prefix, lane)
  local next = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
  local tenant, account = next[1], tonumber(next[2])
  moved = true
  if tenant and full(tenant) then
    hold(prefix, lane, tenant, account)
  elseif tenant then
    local id = redis.call('LPOP', ready_of(prefix, lane, tenant))
    local job = prefix .. 'job:' .. (id or '')
    local kind = redis.call('TYPE', job).ok
    local tokens = 1 -- what is not worth a grant is worth a turn: it must not hold up the others
    local granted = false
    if id and (#id ~= ID_LENGTH or not string.find(id, '^resp_%x+$') or (kind ~= 'none' and kind ~= 'hash')) then
      bury(prefix, id) -- nobody of ours wrote this
    elseif id and kind == 'hash' and redis.call('HGET', job, 'status') == 'queued'
      and not redis.call('ZSCORE', prefix .. 'delayed', id) then
      granted = true
      tokens = math.max(1, tonumber(redis.call('HGET', job, 'tokens') or USUAL_TOKENS))
    end -- else a second entry of a job that runs or has ended: the hash decides, the entry goes
    local turn = charge(prefix, lane, tenant, account, tokens)
    if granted then
      redis.call('HSET', job, 'status', 'running', 'claim', token, 'charged', tokens, 'turn', turn)
      redis.call('HINCRBY', job, 'attempt', 1)
      lease(prefix, id, time + ARGV[4])
      grants[#grants + 1] = grant(prefix, id, time)
      ids[#ids + 1] = id
      spend(prefix, model_of(lane), time, models[model_of(lane)], tokens)
    end
  end
  if redis.call('EXISTS', turns) == 1 then lanes[#lanes + 1] = lane end
end

if moved then
  redis.call('DEL', KEYS[1])
  if #lanes > 0 then
    redis.call('RPUSH', KEYS[1], unpack(lanes))
    redis.call('PEXPIRE', KEYS[1], STRUCTURE_TTL)
  end
end

if #ids > 0 then
  redis.call('SET', KEYS[2], table.concat(ids, ' '), 'PX', ARGV[4])
  -- The pace of a busy queue, for estimates: ms between claims while something always waited.
  local f = redis.call('HMGET', numbers, '~last', '~pace', '~busy')
  if f[1] and f[3] == '1' then
    local step = math.min((time - f[1]) / #ids, 600000)
    redis.call('HSET', numbers, '~pace', f[2] and f[2] * 0.8 + step * 0.2 or step)
  end
  redis.call('HSET', numbers, '~last', time, '~busy', #lanes > 0 and 1 or 0, '~overtaken', overtaken)
  redis.call('PEXPIRE', numbers, STRUCTURE_TTL)
end
return grants
