-- Shared functions: places in the queue, idempotency keys (`known`), notifications, leases, the dead list.
-- The loader puts in front of each script the parts that its `@include` lines name.
-- `prefix` is "holdline:{p}:"; each key below shares the slot of the script's KEYS.

local STRUCTURE_TTL = 30 * 24 * 3600 * 1000 -- of what is shared by jobs: no key lives for ever
local TENANT_TTL = 400 * 24 * 3600 * 1000 -- of its settings, since they were last set or used
local WAKE_BOUND = 64
local DEAD_BOUND = 1000
local PROMOTE_BOUND = 100 -- retries that become due in one claim
local MAX_CLAIMED = 1000 -- jobs that one claim hands out
local LONG_WAIT = 60 * 1000 -- after which a lower tier is overtaken so often only:
local OVERTAKEN_BOUND = 3
local HOOKS_BOUND = 100000 -- webhooks that wait, in a partition
local HOOK_TTL = 4 * 24 * 3600 * 1000 -- of one: the last attempt is due after three days
local DELAY_BOUND = 150 * 1000 -- of a wait for another attempt, and of a pause of a model
local SUBMITTED = 2 -- entries with which a log begins
local ID_LENGTH = 40 -- of every id that jobs/names.py makes

-- Redis's own clock, in ms: no host clock decides anything.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Lowers times in a sorted set to the latest one that can be set now. Redis's clock may step back: by
-- NTP, when a machine is resumed, after a failover. A later time was stored before the step.
local function cap(key, latest, limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. latest, '+inf', 'LIMIT', 0, limit)) do
    redis.call('ZADD', key, 'XX', latest, id)
  end
end

-- Some fields of a hash by their names; those that are not set are nil.
local function fields(key, ...)
  local values, found = redis.call('HMGET', key, ...), {}
  for index, name in ipairs({ ... }) do found[name] = values[index] or nil end
  return found
end

-- The names and values of a hash, less those whose value is "".
local function without_empty(flat)
  local kept = {}
  for index = 1, #flat, 2 do
    if flat[index + 1] ~= '' then kept[#kept + 1], kept[#kept + 2] = flat[index], flat[index + 1] end
  end
  return kept
end

-- The name of a queue is a tier and a model: "p:", "d:" or "f:" (priority, default, flex) and the model's name;
-- "" is the default tier where models are not told apart.
-- Each queue has the finish tags of its tenants, and a list of waiting ids for each tenant.
local function of_queue(prefix, name, queue_name) return prefix .. (queue_name == '' and name or name .. '|' .. queue_name) end
local function waiting_of(prefix, queue_name, tenant)
  return prefix .. (queue_name == '' and 'waiting:' or 'waiting|' .. queue_name .. '|') .. tenant
end
local function rank_of(queue_name) return ({ p = 1, f = 3 })[string.sub(queue_name, 1, 1)] or 2 end
local function model_of(queue_name) return string.sub(queue_name, 3) end

-- Tells live followers that the response waits again; one who comes later reads it from the job.
local function notify_queued(channel, number, delay, reason)
  redis.call('PUBLISH', channel, cmsgpack.pack({ 'queued', number, delay, reason }))
end

-- Counts what became of webhooks: "~sent", "~dead", "~seen", "~dropped" in `numbers`.
local function count_hook(prefix, how)
  redis.call('HINCRBY', prefix .. 'numbers', '~' .. how, 1)
  redis.call('PEXPIRE', prefix .. 'numbers', STRUCTURE_TTL)
end

local function end_hook(prefix, id, how)
  redis.call('DEL', prefix .. 'hook:' .. id)
  redis.call('ZREM', prefix .. 'hooks', id)
  count_hook(prefix, how)
end

-- Puts the webhook of a response in line, in the same breath as the response ends; `wait` is nil where
-- none is sent.
local function hook(prefix, id, status, time, wait)
  if not wait then return end
  local hooks = prefix .. 'hooks'
  if redis.call('ZCARD', hooks) >= HOOKS_BOUND then return count_hook(prefix, 'dropped') end
  local name = prefix .. 'hook:' .. id
  redis.call('HSET', name, 'status', status, 'ended', time, 'tries', 0, 'unseen', wait == '0' and 0 or 1)
  redis.call('PEXPIRE', name, HOOK_TTL)
  redis.call('ZADD', hooks, time + wait, id)
  redis.call('PEXPIRE', hooks, STRUCTURE_TTL)
end

local function bury(prefix, what)
  redis.call('RPUSH', prefix .. 'dead', what)
  redis.call('LTRIM', prefix .. 'dead', -DEAD_BOUND, -1)
  redis.call('PEXPIRE', prefix .. 'dead', STRUCTURE_TTL)
end

-- What a worker is told about a job that is now its own. `job` has the fields that are named here.
local function grant(prefix, id, job, time)
  return { id, job.job or '', tonumber(job.attempt or 0), tonumber(job.failures or 0), tonumber(job.cancel or 0),
    job.reason or '', math.max(0, time - (job.submitted or time)), job.length or redis.call('LLEN', prefix .. 'log:' .. id), job.queue_name or '' }
end

-- Publishes entries, or their number alone where carrying them costs more than a read.
local function notify(channel, first, frames, most)
  local bytes = 0
  for _, frame in ipairs(frames) do bytes = bytes + #frame end
  redis.call('PUBLISH', channel, cmsgpack.pack({ first, bytes <= most and frames or #frames }))
end

-- Pushes entries if the log has `expected` of them. Answers the new length, or nil and the length found.
-- The same entries at the tail are a repeat of this very append, whose reply was lost.
local function push(log, expected, frames)
  local length = redis.call('LLEN', log)
  if length == expected then
    for from = 1, #frames, 1000 do
      length = redis.call('RPUSH', log, unpack(frames, from, math.min(from + 999, #frames)))
    end
    return length, false
  end
  if length == expected + #frames then
    local tail = redis.call('LRANGE', log, expected, -1)
    for index, frame in ipairs(frames) do
      if tail[index] ~= frame then return nil, length end
    end
    return length, true
  end
  return nil, length
end

-- What an idempotency key made before: its id, and `same` or `reused`. Nothing if it is unused.
-- Of several fingerprints, parted by commas, any will do: one body has one under each key of a cipher.
local function known(prefix, key, fingerprint)
  if fingerprint == '' then return nil end
  local first, print = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  if not first or redis.call('EXISTS', prefix .. 'job:' .. first) == 0 then return nil end
  return first, string.find(',' .. fingerprint .. ',', ',' .. print .. ',', 1, true) and 'same' or 'reused'
end

-- Remembers what an idempotency key made, under the first fingerprint.
local function remember(key, id, fingerprint, ttl)
  if fingerprint ~= '' then redis.call('SET', key, id .. ' ' .. string.match(fingerprint, '^[^,]+'), 'PX', ttl) end
end

-- How many entries the blocks of a compacted log hold together: "2000,2000,17" says it of each.
local function entries_of(compacted)
  local entries = 0
  for count in string.gmatch(compacted, '%d+') do entries = entries + count end
  return entries
end

-- Keeps what has ended for so many ms more; its idempotency key, if it has one, does not outlive it. As
-- long as the job is there, the key is its own.
local function keep(job, log, key, ms, ...)
  if key then redis.call('PEXPIRE', key, ms, ...) end
  redis.call('PEXPIRE', log, ms, ...)
  redis.call('PEXPIRE', job, ms, ...)
end

-- A stored turn is a hash: `items`, `owner`, a field for each job that holds it, and perhaps `deleted`.
-- Whether a job may read it: a deleted turn is readable to the jobs that hold it alone.
local function turn_is_readable(key, job)
  local turn = redis.call('HMGET', key, 'owner', 'deleted', job)
  return turn[1] and (not turn[2] or turn[3])
end

-- Whether any job holds it.
local function turn_is_held(key)
  return redis.call('HLEN', key) - redis.call('HEXISTS', key, 'deleted') > 2
end
