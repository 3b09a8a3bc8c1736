-- What a tenant may; may name what is in _shared.lua, _provider.lua and _fair_queue.lua.
--
-- A budget is booked when a job is accepted, as estimated; when it ends, what it really took takes the
-- place of the estimate. So what is on its way counts, and what came to nothing does not.

local DAY = 24 * 3600 * 1000
local MINUTE = 60 * 1000
local USED_TTL = 3 * DAY

local function used_of(prefix, tenant, day) return prefix .. 'used:' .. day .. ':' .. tenant end
local function open_of(prefix, tenant) return prefix .. 'open:' .. tenant end

-- Adds to what a tenant used on a day. A field that was not there may be that of a new key.
local function use(prefix, tenant, day, tokens, money)
  local used = used_of(prefix, tenant, day)
  if tokens ~= 0 and redis.call('HINCRBY', used, 'tokens', tokens) == tokens then
    redis.call('PEXPIRE', used, USED_TTL)
  end
  if money ~= 0 then
    redis.call('HINCRBYFLOAT', used, 'money', money)
    redis.call('PEXPIRE', used, USED_TTL)
  end
end

-- Books a job that was accepted, and that can be open for `kept` ms; the day on which it is booked.
local function reserve(prefix, tenant, id, time, tokens, money, kept)
  local day, open = math.floor(time / DAY), open_of(prefix, tenant)
  use(prefix, tenant, day, tokens, money)
  redis.call('ZADD', open, time + kept, id)
  redis.call('PEXPIRE', open, STRUCTURE_TTL)
  return day
end

-- What the job took, once: -1 where nobody knows, which is the estimate if a model was asked. `job` has
-- the fields that are named here.
local function book(prefix, id, job, tenant, tokens, money)
  if not job.day then return end
  local asked, reserved, cost = job.attempt ~= '0', tonumber(job.tokens or 0), tonumber(job.money or 0)
  if tokens < 0 then tokens = asked and reserved or 0 end
  if money < 0 then money = asked and cost or 0 end
  redis.call('HDEL', prefix .. 'job:' .. id, 'day')
  use(prefix, tenant, job.day, tokens - reserved, money - cost)
  redis.call('ZREM', open_of(prefix, tenant), id)
end

-- Whether a tenant may have one more job: nothing, or {"limited", what, limit, ms to wait}. And what it
-- has left of requests and tokens. `most` is what holds where its settings say nothing; 0 is no limit.
local function admit(prefix, tenant, time, tokens, money, input, most)
  local settings = prefix .. 'tenant:' .. tenant
  local f = redis.call('HMGET', settings, 'waiting', 'requests_per_minute', 'tokens_per_day', 'money_per_day',
    'input_tokens', 'weight', 'running')
  local limit = {}
  for index = 1, 5 do limit[index] = tonumber(f[index] or most[index]) end
  local function limited(what, index, wait) return { 'limited', what, tostring(limit[index]), math.ceil(wait) } end

  if limit[5] > 0 and input > limit[5] then return limited('input_tokens', 5, 0) end
  if limit[1] > 0 then
    local open = open_of(prefix, tenant)
    redis.call('ZREMRANGEBYSCORE', open, '-inf', time)
    if redis.call('ZCARD', open) - count_running(prefix, tenant, time) >= limit[1] then
      return limited('waiting', 1, 5000)
    end
  end
  local tokens_left = 0
  if limit[3] > 0 or limit[4] > 0 then
    local used = redis.call('HMGET', used_of(prefix, tenant, math.floor(time / DAY)), 'tokens', 'money')
    local tomorrow = DAY - time % DAY
    tokens_left = limit[3] - (used[1] or 0) - tokens
    if limit[3] > 0 and tokens_left < 0 then return limited('tokens_per_day', 3, tomorrow) end
    if limit[4] > 0 and (used[2] or 0) + money > limit[4] * 1e6 then return limited('money_per_day', 4, tomorrow) end
  end
  local left = 0
  if limit[2] > 0 then -- a bucket that holds the requests of one minute
    local rate = prefix .. 'rate:' .. tenant
    local b = redis.call('HMGET', rate, 'left', 'at')
    left = math.min(limit[2], (b[1] or limit[2]) + math.max(0, time - (b[2] or time)) * limit[2] / MINUTE)
    if tonumber(b[2] or 0) > time then redis.call('HSET', rate, 'at', time) end
    if left < 1 then return limited('requests_per_minute', 2, (1 - left) * MINUTE / limit[2]) end
    left = left - 1
    redis.call('HSET', rate, 'left', left, 'at', time)
    redis.call('PEXPIRE', rate, 2 * MINUTE)
  end
  for index = 1, 7 do
    if f[index] then
      redis.call('PEXPIRE', settings, TENANT_TTL)
      break
    end
  end
  return nil, { limit[2], math.floor(left), limit[3], math.max(0, tokens_left) }
end

-- Forgets an id that no longer waits or runs.
local function close(prefix, id, tenant)
  unlease(prefix, tenant, id)
  redis.call('ZREM', prefix .. 'open', id)
  redis.call('ZREM', prefix .. 'followed', id)
end
