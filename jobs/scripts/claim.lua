#!lua
-- Hands out up to `count` waiting jobs, each under a lease. The higher tier comes first; in a tier
-- models take turns, and for a model the tenant that used least. Who has waited long is overtaken a few
-- times only. A tenant of which as many run as may is taken out of the line until one of them ends.
-- The first attempt of a job begins here: its log says so as soon as it is handed out.
-- KEYS  lanes_key, claimed_key
-- ARGV  prefix, claim, count, lease_ms, tenant_running (answers of a tenant
--       that run at once where its settings say nothing; 0: any number), max_bytes (that a
--       notification carries), model_limits... (four each: its name, how many more of it or -1 for any
--       number, requests and tokens a minute that its provider allows or 0 for any number)
-- Returns {grant...}; a grant is {id, job, attempt, failures, cancel, reason, waited ms, log length, lane}
-- May be repeated: the same claim is handed the same jobs while it still holds them.
local time = now()
count = math.min(tonumber(count), MOST_CLAIMED)

-- The record of an id that was found in a list; nil for what nobody of ours wrote.
local function record(id)
  if #id ~= ID_LENGTH or not string.find(id, '^resp_%x+$') then return nil end
  local names = { 'status', 'claim', 'owner', 'job', 'tokens', 'attempt', 'failures', 'cancel', 'reason', 'submitted',
    'lane', 'begins' }
  local values, job = redis.pcall('HMGET', prefix .. 'job:' .. id, unpack(names)), {}
  if values.err then return nil end
  for index, name in ipairs(names) do job[name] = values[index] or nil end
  return job
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
  return again
end

-- Retries that are due wait again; looking here makes them as punctual as claims are. An older program
-- keeps who waits in a list, `ring`, and does not say that something waits in the lane "".
local function lanes_and_rings()
  local lanes, rings = redis.call('LRANGE', lanes_key, 0, -1), { of_lane(prefix, 'ring', '') }
  for index, lane in ipairs(lanes) do rings[index + 1] = of_lane(prefix, 'ring', lane) end
  return lanes, rings
end
local found, rings = lanes_and_rings()
local retries = redis.call('EXISTS', prefix .. 'delayed', unpack(rings)) > 0
if retries then
  promote(prefix, time, PROMOTE_BOUND)
  for index, ring in ipairs(rings) do
    for _, tenant in ipairs(redis.call('LPOP', ring, 100) or {}) do
      await_turn(prefix, found[index - 1] or '', tenant)
    end
  end
  found = lanes_and_rings()
end

-- Lanes in the order of their turns.
local lanes, plain = { unpack(found) }, false
for _, lane in ipairs(lanes) do plain = plain or lane == '' end
if not plain and redis.call('EXISTS', turns_of(prefix, '')) == 1 then lanes[#lanes + 1] = '' end
if #lanes == 0 then return {} end

-- The clock of each lane, and what is noted of the claims before this one.
local clocks = {}
for index, lane in ipairs(lanes) do clocks[index] = '~clock|' .. lane end
local noted = fields(prefix .. 'numbers', '~last', '~pace', '~busy', '~overtaken', unpack(clocks))
local overtaken = tonumber(noted['~overtaken'] or 0)

local models = {}
for index = 1, #model_limits, 4 do
  models[model_limits[index]] = allowance(prefix, model_limits[index], time, tonumber(model_limits[index + 1]), tonumber(model_limits[index + 2]),
    tonumber(model_limits[index + 3]))
end
local function open(lane)
  local model = model_of(lane)
  models[model] = models[model] or allowance(prefix, model, time, -1, 0, 0)
  return allows(models[model])
end

-- What a claim knows of a tenant: how many of its answers run and may, and what it is handed out.
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

-- The line of a lane: its clock, who is next with its account, and the account of the one behind. While
-- the same tenant is next, its account is written here alone.
local lines = {}
local function write_account(line)
  if line.tenant and line.moved then redis.call('ZADD', line.turns, line.account, line.tenant) end
end
local function line_of(lane)
  lines[lane] = lines[lane] or { turns = turns_of(prefix, lane), clock = tonumber(noted['~clock|' .. lane] or 0) }
  local line = lines[lane]
  if not line.tenant or line.account >= line.behind then
    write_account(line)
    local two = redis.call('ZRANGE', line.turns, 0, 1, 'WITHSCORES')
    line.tenant, line.account, line.behind = two[1], tonumber(two[2]), tonumber(two[4] or math.huge)
  end
  return line
end

-- When the next one of a lane was submitted.
local function since(lane)
  local tenant = line_of(lane).tenant
  local id = tenant and redis.call('LINDEX', ready_of(prefix, lane, tenant), 0)
  local job = id and record(id)
  return tonumber(job and job.submitted or time)
end

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

-- Takes the next id of a tenant's list: the id, and whether there is more.
local function take(tenant, lane, ready)
  local id = redis.call('LPOP', ready)
  local left = tenant.waiting[lane]
  if not left then
    left = redis.call('LLEN', ready)
    if left > 0 then redis.call('PEXPIRE', ready, STRUCTURE_TTL) end
  elseif id then
    left = left - 1
  end
  tenant.waiting[lane] = left
  return id, left > 0
end

-- Appends to the log of a job what its submission left for this moment, where nothing else has happened.
local function begin(id, job)
  local name, log = prefix .. 'job:' .. id, prefix .. 'log:' .. id
  redis.call('HDEL', name, 'begins')
  job.length = push(log, SUBMITTED, { job.begins })
  if not job.length then return end
  notify(prefix .. 'notifications:' .. id, SUBMITTED, { job.begins }, tonumber(max_bytes))
end

local grants, ids = {}, {}
local function hand_out(id, job, tenant, turn, tokens)
  if job.begins then begin(id, job) end
  job.attempt = (job.attempt or 0) + 1
  redis.call('HSET', prefix .. 'job:' .. id, 'status', 'running', 'claim', claim, 'charged', tokens, 'turn', turn,
    'attempt', job.attempt)
  tenant.running = tenant.running + 1
  tenant.leases[#tenant.leases + 1], tenant.leases[#tenant.leases + 2] = time + lease_ms, id
  grants[#grants + 1], ids[#ids + 1] = grant(prefix, id, job, time), id
end

-- Gives a tenant its turn, which may come to nothing, and books what it takes.
local function serve(lane, line, tenant)
  local id, more = take(tenant, lane, ready_of(prefix, lane, line.tenant))
  local job = id and record(id)
  local turn, tokens = math.max(line.account, line.clock), 1
  if job and job.status == 'queued' and not (retries and redis.call('ZSCORE', prefix .. 'delayed', id)) then
    tokens = math.max(1, tonumber(job.tokens or USUAL_TOKENS))
    hand_out(id, job, tenant, turn, tokens)
    spend(prefix, model_of(lane), time, models[model_of(lane)], tokens)
  elseif id and not job then
    bury(prefix, id)
  end -- else a second entry of a job that runs or has ended: the hash decides, the entry goes
  -- What is not worth a grant is worth a turn: it must not hold up the others.
  line.clock, line.account, line.moved = turn, turn + tokens / tenant.weight, true
  if not more then
    leave(prefix, lane, line.tenant, line.account, line.clock)
    line.tenant = nil
  end
end

-- A lane that was emptied stays where it is until a claim finds nothing in it: mostly something comes.
local emptied = {}
for _ = 1, count + 100 do -- a bound on stale entries and on tenants held back in one call
  local index = #grants < count and choose()
  if not index then break end
  local lane = table.remove(lanes, index)
  local line = line_of(lane)
  local tenant = line.tenant and tenant_by(line.tenant)
  if tenant and tenant.most > 0 and tenant.running >= tenant.most then
    hold(prefix, lane, line.tenant, line.account)
    line.tenant = nil
  elseif tenant then
    serve(lane, line, tenant)
  end
  if line.tenant or line.behind < math.huge then
    lanes[#lanes + 1] = lane
  elseif tenant then
    emptied[#emptied + 1] = lane
  end
end
local busy = #lanes > 0 and 1 or 0
for _, lane in ipairs(emptied) do lanes[#lanes + 1] = lane end

local noting = {}
for lane, line in pairs(lines) do
  write_account(line)
  if line.tenant then redis.call('PEXPIRE', line.turns, STRUCTURE_TTL) end
  if line.moved then noting[#noting + 1], noting[#noting + 2] = '~clock|' .. lane, line.clock end
end
for name, tenant in pairs(tenants) do
  if #tenant.leases > 0 then lease(prefix, name, tenant.leases) end
end
if table.concat(lanes, '\n') ~= table.concat(found, '\n') or #lanes ~= #found then
  redis.call('DEL', lanes_key)
  for _, lane in ipairs(lanes) do queue_up(lanes_key, lane) end
end
if #ids > 0 then
  redis.call('SET', claimed_key, table.concat(ids, ' '), 'PX', lease_ms)
  -- The pace of a busy queue, for estimates: ms between claims while something always waited.
  local pace = noted['~pace']
  if noted['~last'] and noted['~busy'] == '1' then
    local step = math.min((time - noted['~last']) / #ids, 600000)
    pace = pace and pace * 0.8 + step * 0.2 or step
  end
  for name, value in pairs({ last = time, pace = pace, busy = busy, overtaken = overtaken }) do
    noting[#noting + 1], noting[#noting + 2] = '~' .. name, value
  end
end
if #noting > 0 then
  redis.call('HSET', prefix .. 'numbers', unpack(noting))
  if not noted['~last'] then redis.call('PEXPIRE', prefix .. 'numbers', STRUCTURE_TTL) end
end
return grants
