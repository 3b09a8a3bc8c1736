#!lua
-- Hands out up to `count` waiting jobs, one owner after the other, each under a lease.
-- KEYS  ring, claimed:<token>
-- ARGV  prefix, token, count, lease ms
-- Returns {grant...}; a grant is {id, job, attempt, strikes, cancel, reason, waited ms, log length}
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

local grants, ids = {}, {}
for _ = 1, count + 100 do -- a bound on stale entries looked at in one call
  if #grants == count then break end
  local owner = redis.call('LPOP', KEYS[1])
  if not owner then break end
  local ready = prefix .. 'ready:' .. owner
  local id = redis.call('LPOP', ready)
  if redis.call('LLEN', ready) > 0 then join_ring(prefix, owner) end
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
    end -- else a second entry of a job that runs or has ended: the hash decides, the entry goes
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
  redis.call('HSET', numbers, '~last', time, '~busy', redis.call('LLEN', KEYS[1]) > 0 and 1 or 0)
  redis.call('PEXPIRE', numbers, STRUCTURE_TTL)
end
return grants
