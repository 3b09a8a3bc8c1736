-- Applies the rate limits and the pauses of a model's provider, for all workers together. This file may use the
-- functions of _shared.lua.

local RATE_TTL = 10 * 60 * 1000
local MOST = 1000000
local RAMP_STEP = 500 -- ms in which the number of jobs that may begin after a pause doubles: 1, 2, 4, ...
local RAMP = 20 * RAMP_STEP -- ms after the end of a pause in which the model is still limited

local function pause_of(prefix, model) return prefix .. 'pause:' .. model end
local function pace_of(prefix, model) return prefix .. 'pace:' .. model end

-- Returns the content of a token bucket after `passed` ms. The bucket fills with `limit` tokens per minute and has
-- room for a sixth of this number, so workers do not send the requests of a whole minute at once.
local function filled(left, limit, passed)
  local most = math.max(1, limit / 6)
  return math.min(most, (left or most) + passed * limit / 60000)
end

-- Returns the limits of a claim for a model. `room` is the number of jobs that may still begin. `requests` and
-- `tokens` are the limits per minute, and `left` the remaining requests and tokens. `ramps` is true during and after
-- a pause.
local function allowance(prefix, model, time, most, requests, tokens)
  local known = { room = most < 0 and MOST or most, requests = requests, tokens = tokens }
  -- A model that no models file lists has the name "" here and cannot be paused.
  local p = model ~= '' and redis.call('HMGET', pause_of(prefix, model), 'until', 'begun')
  if p and p[1] then
    local over = time - p[1]
    if -over > DELAY_BOUND then over = 0 end -- Redis's clock has stepped back
    local ramp = over < 0 and 0 or math.floor(2 ^ (over / RAMP_STEP)) - p[2]
    known.room, known.ramps = math.max(0, math.min(known.room, ramp)), true
  end
  if requests > 0 or tokens > 0 then
    local b = redis.call('HMGET', pace_of(prefix, model), 'requests', 'tokens', 'at')
    local passed = math.max(0, time - (b[3] or time))
    if tonumber(b[3] or 0) > time then redis.call('HSET', pace_of(prefix, model), 'at', time) end
    known.left = { filled(b[1], requests, passed), filled(b[2], tokens, passed) }
  end
  return known
end

local function allows(known)
  return known.room > 0 and (known.requests == 0 or known.left[1] >= 1) and (known.tokens == 0 or known.left[2] > 0)
end

-- Books a job of a model that begins now: reduces the model's allowance by one request and the job's estimated
-- tokens.
local function spend(prefix, model, time, known, tokens)
  known.room = known.room - 1
  if known.ramps then redis.call('HINCRBY', pause_of(prefix, model), 'begun', 1) end
  if known.left then
    known.left = { known.left[1] - math.min(known.requests, 1), known.left[2] - math.min(known.tokens, 1) * tokens }
    redis.call('HSET', pace_of(prefix, model), 'requests', known.left[1], 'tokens', known.left[2], 'at', time)
    redis.call('PEXPIRE', pace_of(prefix, model), RATE_TTL)
  end
end
