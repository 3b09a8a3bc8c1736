#!lua flags=no-writes
-- Counts the jobs of a partition by their states and queues. The script reads sizes and first entries only, so its
-- time depends on the numbers of queues and models, but not on the number of jobs.
-- KEYS  queue_names_key
-- ARGV  prefix, most (number of tenants in each ranking), models... (whose pauses are returned, in addition to the
--       models of the queues)
-- Returns {now in ms, {name, value...}, {queue_name, waiting, submission in ms of the oldest waiting job...},
--         {model, remaining ms of its pause...}, {tenant, unfinished jobs...}, {tenant, tokens used today...}}
-- May be repeated: it writes nothing.
-- @include now fields since_of model_of pause_of DAY tenants_of usage_of sum_sizes
local time, queues, seen, paused = now(), {}, {}, {}

for _, queue_name in ipairs(redis.call('SMEMBERS', queue_names_key)) do
  local oldest = redis.call('ZRANGE', since_of(prefix, queue_name), 0, 0, 'WITHSCORES')
  if oldest[1] then
    queues[#queues + 1], queues[#queues + 2] = queue_name, redis.call('ZCARD', since_of(prefix, queue_name))
    queues[#queues + 1] = tonumber(oldest[2])
  end
  models[#models + 1] = model_of(queue_name)
end

for _, model in ipairs(models) do
  local till = not seen[model] and model ~= '' and redis.call('HGET', pause_of(prefix, model), 'until')
  seen[model] = true
  if till and tonumber(till) > time then paused[#paused + 1], paused[#paused + 2] = model, till - time end
end

local function count(name) return redis.call('ZCARD', prefix .. name) end
local noted = fields(prefix .. 'numbers', '~started', '~sent', '~dead', '~seen', '~dropped')
local prompt_bytes = sum_sizes(prefix, '')
local counts = {}
for name, value in pairs({
  unfinished = count('open'), running = count('leases'), delayed = count('delayed'),
  expired_leases = redis.call('ZCOUNT', prefix .. 'leases', '-inf', time),
  dead = redis.call('LLEN', prefix .. 'dead'), unsettled = count('unsettled'), prompt_bytes = prompt_bytes,
  webhooks_waiting = count('hooks') + count('feedbacks'), webhooks_sent = noted['~sent'], webhooks_dead = noted['~dead'],
  started = noted['~started'], webhooks_seen = noted['~seen'], webhooks_dropped = noted['~dropped'],
}) do
  counts[#counts + 1], counts[#counts + 2] = name, math.floor(tonumber(value))
end

local function ranked(key) return redis.call('ZRANGE', key, 0, most - 1, 'REV', 'WITHSCORES') end
return { time, counts, queues, paused, ranked(tenants_of(prefix)), ranked(usage_of(prefix, math.floor(time / DAY))) }
