#!lua
-- Hands out up to `count` waiting jobs, each under a lease. The higher tier comes first; in a tier
-- models take turns, and for a model owners do. Who has waited long is overtaken a few times only.
-- KEYS  lanes, claimed:<token>
-- ARGV  prefix, token, count, lease ms, (model, how many more of it)...; others as many as there are
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

local room = {}
for index = 5, #ARGV, 2 do room[ARGV[index]] = tonumber(ARGV[index + 1]) end

-- Lanes in the order of their turns. An older program fills "" and does not say so.
local lanes = redis.call('LRANGE', KEYS[1], 0, -1)
if redis.call('EXISTS', prefix .. 'ring') == 1 and not redis.call('LPOS', KEYS[1], '') then
  lanes[#lanes + 1] = ''
end

-- When the next one of a lane was submitted.
local function since(lane)
  local owner = redis.call('LINDEX', ring_of(prefix, lane), 0)
  local id = owner and redis.call('LINDEX', ready_of(prefix, lane, owner), 0)
  local job = prefix .. 'job:' .. (id or '')
  return tonumber(redis.call('TYPE', job).ok == 'hash' and redis.call('HGET', job, 'submitted') or time)
end

local overtaken = tonumber(redis.call('HGET', numbers, '~overtaken') or 0)

-- The index of the lane that is served next, or nil.
local function choose()
  local best, oldest, at
  for index, lane in ipairs(lanes) do
    if (room[model_of(lane)] or 1) > 0 and (not best or rank_of(lane) < rank_of(lanes[best])) then
      best = index
    end
  end
  for index, lane in ipairs(lanes) do
    if (room[model_of(lane)] or 1) > 0 and rank_of(lane) > rank_of(lanes[best]) then
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

local grants, ids, moved = {}, {}, false
for _ = 1, count + 100 do -- a bound on stale entries looked at in one call
  local index = #grants < count and choose()
  if not index then break end
  local lane = table.remove(lanes, index)
  local ring = ring_of(prefix, lane)
  local owner = redis.call('LPOP', ring)
  local ready = ready_of(prefix, lane, owner or '')
  local id = owner and redis.call('LPOP', ready)
  if owner and redis.call('LLEN', ready) > 0 then
    redis.call('RPUSH', ring, owner)
    redis.call('PEXPIRE', ring, STRUCTURE_TTL)
  end
  if redis.call('EXISTS', ring) == 1 then lanes[#lanes + 1] = lane end
  moved = true
  if id then
    local job = prefix .. 'job:' .. id
    if #id ~= ID_LENGTH or not string.find(id, '^resp_%x+$') or (redis.call('EXISTS', job) == 1 and redis.call('TYPE', job).ok ~= 'hash') then
      bury(prefix, id) -- nobody of ours wrote this
    elseif redis.call('HGET', job, 'status') == 'queued' and not redis.call('ZSCORE', prefix .. 'delayed', id) then
      redis.call('HSET', job, 'status', 'running', 'claim', token)
      redis.call('HINCRBY', job, 'attempt', 1)
      lease(prefix, id, time + ARGV[4])
      grants[#grants + 1] = grant(prefix, id, time)
      ids[#ids + 1] = id
      local model = model_of(lane)
      if room[model] then room[model] = room[model] - 1 end
    end -- else a second entry of a job that runs or has ended: the hash decides, the entry goes
  end
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
