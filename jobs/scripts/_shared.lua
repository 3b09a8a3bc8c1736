-- Shared constants and functions: queue names, idempotency keys (`known`), notifications, webhooks, the dead list.
-- The loader prepends to each script the parts that its `@include` lines name.
-- `prefix` is "holdline:{p}:", so each key below is in the same slot as the script's KEYS.

local STRUCTURE_TTL = 30 * 24 * 3600 * 1000 -- of keys that jobs share: no key lives for ever
local TENANT_TTL = 400 * 24 * 3600 * 1000 -- of a tenant's settings, since they were last set or used
local WAKE_BOUND = 64
local DEAD_BOUND = 1000
local PROMOTE_BOUND = 100 -- due retries that one claim promotes
local MAX_CLAIMED = 1000 -- jobs that one claim hands out
local LONG_WAIT = 60 * 1000 -- ms of waiting after which OVERTAKEN_BOUND applies to a job
local OVERTAKEN_BOUND = 3 -- times that higher tiers are still served before such a job
local HOOKS_BOUND = 100000 -- waiting webhooks of a partition
local HOOK_TTL = 4 * 24 * 3600 * 1000 -- of a webhook: its last attempt is due after three days
local DELAY_BOUND = 150 * 1000 -- ms that a retry may be delayed, or a model paused
local SUBMITTED = 2 -- entries that a submission writes to the log
local ID_LENGTH = 40 -- of every id that jobs/names.py makes

-- Returns the time of Redis's clock in ms. No decision depends on the clock of another host.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Lowers the times in a sorted set to `latest`, the latest time that can be set now. Redis's clock may step
-- back: by NTP, when a machine is resumed, after a failover. A later time was stored before such a step.
local function cap(key, latest, limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. latest, '+inf', 'LIMIT', 0, limit)) do
    redis.call('ZADD', key, 'XX', latest, id)
  end
end

-- Returns a table of the named fields of a hash; fields that are not set are nil.
local function fields(key, ...)
  local values, found = redis.call('HMGET', key, ...), {}
  for index, name in ipairs({ ... }) do found[name] = values[index] or nil end
  return found
end

-- Returns a list of names and values without the pairs whose value is "".
local function without_empty(flat)
  local kept = {}
  for index = 1, #flat, 2 do
    if flat[index + 1] ~= '' then kept[#kept + 1], kept[#kept + 2] = flat[index], flat[index + 1] end
  end
  return kept
end

-- A queue's name consists of a tier and a model: "p:", "d:" or "f:" (priority, default, flex) and the model's
-- name; "" is the default tier if the queues do not distinguish models.
-- Each queue has the finish tags of its tenants, and a list of waiting ids for each tenant.
local function of_queue(prefix, name, queue_name) return prefix .. (queue_name == '' and name or name .. '|' .. queue_name) end
local function waiting_of(prefix, queue_name, tenant)
  return prefix .. (queue_name == '' and 'waiting:' or 'waiting|' .. queue_name .. '|') .. tenant
end
local function rank_of(queue_name) return ({ p = 1, f = 3 })[string.sub(queue_name, 1, 1)] or 2 end
local function model_of(queue_name) return string.sub(queue_name, 3) end

-- Notifies the current followers that the response is queued again. Later followers read that from the job.
local function notify_queued(channel, number, delay, reason)
  redis.call('PUBLISH', channel, cmsgpack.pack({ 'queued', number, delay, reason }))
end

-- Counts the outcomes of webhooks: "~sent", "~dead", "~seen", "~dropped" in `numbers`.
local function count_hook(prefix, how)
  redis.call('HINCRBY', prefix .. 'numbers', '~' .. how, 1)
  redis.call('PEXPIRE', prefix .. 'numbers', STRUCTURE_TTL)
end

local function end_hook(prefix, id, how)
  redis.call('DEL', prefix .. 'hook:' .. id)
  redis.call('ZREM', prefix .. 'hooks', id)
  count_hook(prefix, how)
end

-- Queues the webhook of a response in the same script that ends the response. `wait` is the delay in ms, or nil
-- if no webhook is to be sent.
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

-- Returns the grant of a job for the worker that now holds it. `job` holds the fields that are read here.
local function grant(prefix, id, job, time)
  return { id, job.job or '', tonumber(job.attempt or 0), tonumber(job.failures or 0), tonumber(job.cancel or 0),
    job.reason or '', math.max(0, time - (job.submitted or time)), job.length or redis.call('LLEN', prefix .. 'log:' .. id), job.queue_name or '' }
end

-- Publishes entries, or only their number if they exceed `most` bytes: then sending them costs more than a read.
local function notify(channel, first, frames, most)
  local bytes = 0
  for _, frame in ipairs(frames) do bytes = bytes + #frame end
  redis.call('PUBLISH', channel, cmsgpack.pack({ first, bytes <= most and frames or #frames }))
end

-- Appends entries if the log has `expected` entries. Returns the new length and false; the length and true if
-- the same entries are already at the tail; else nil and the actual length.
-- The same entries at the tail mean that this very append is repeated, because its reply was lost.
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

-- Returns the id of the response that an idempotency key created, and `same` or `reused` for a request with
-- the same or another body; nil if the key is unused.
-- `fingerprint` may hold several, separated by commas, because a body has one under each encryption key. If any
-- of them matches, the body is the same.
local function known(prefix, key, fingerprint)
  if fingerprint == '' then return nil end
  local first, print = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  if not first or redis.call('EXISTS', prefix .. 'job:' .. first) == 0 then return nil end
  return first, string.find(',' .. fingerprint .. ',', ',' .. print .. ',', 1, true) and 'same' or 'reused'
end

-- Stores the id of the response that an idempotency key created, with the first fingerprint.
local function remember(key, id, fingerprint, ttl)
  if fingerprint ~= '' then redis.call('SET', key, id .. ' ' .. string.match(fingerprint, '^[^,]+'), 'PX', ttl) end
end

-- Returns the number of entries in a compacted log, from the counts of its blocks, as in "2000,2000,17".
local function entries_of(compacted)
  local entries = 0
  for count in string.gmatch(compacted, '%d+') do entries = entries + count end
  return entries
end

-- Keeps an ended response for `ms` more. Its idempotency key, if any, does not outlive it, and belongs to it as
-- long as the job exists.
local function keep(job, log, key, ms, ...)
  if key then redis.call('PEXPIRE', key, ms, ...) end
  redis.call('PEXPIRE', log, ms, ...)
  redis.call('PEXPIRE', job, ms, ...)
end

-- Returns true if a job may read a stored turn. A deleted turn is readable only to the jobs that hold it.
-- A stored turn is a hash: `items`, `owner`, a field for each job that holds it, and `deleted` if it is.
local function turn_is_readable(key, job)
  local turn = redis.call('HMGET', key, 'owner', 'deleted', job)
  return turn[1] and (not turn[2] or turn[3])
end

-- Returns true if any job holds a stored turn.
local function turn_is_held(key)
  return redis.call('HLEN', key) - redis.call('HEXISTS', key, 'deleted') > 2
end
