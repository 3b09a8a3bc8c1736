-- Constants and functions that the scripts share: queue names, idempotency keys, notifications, deliveries, logs.
-- When Python loads a script, it puts the parts that the script's `@include` lines name before the script.
-- `prefix` is "holdline:{p}:", so every key that is built from it is in the same slot as the script's KEYS.

local STRUCTURE_TTL = 30 * 24 * 3600 * 1000 -- TTL in ms of keys that jobs share, so that no key lives forever
local TENANT_TTL = 400 * 24 * 3600 * 1000 -- TTL in ms of a tenant's settings since they were last set or used
local WORKERS_BOUND = 10000 -- maximum number of idle workers that a partition stores
local DEAD_BOUND = 1000
local PROMOTE_BOUND = 100 -- maximum number of due retries that one claim returns to the queue
local MAX_CLAIMED = 1000 -- maximum number of jobs that one claim assigns
local LONG_WAIT = 60 * 1000 -- ms after which OVERTAKEN_BOUND applies to a waiting job
local OVERTAKEN_BOUND = 3 -- number of times that higher tiers may overtake a job after LONG_WAIT
local DELIVERIES_BOUND = 100000 -- maximum number of waiting deliveries of one kind in a partition
local DELIVERY_TTL = 4 * 24 * 3600 * 1000 -- TTL in ms of a delivery, whose last attempt is due after three days
local DELAY_BOUND = 150 * 1000 -- maximum delay of a retry and maximum pause of a model, in ms
local SUBMITTED = 2 -- number of entries that a submission writes to the log
local STEPS_BYTES = 2000 -- maximum length of the recorded steps of a job
local FORMAT = 1 -- newest format of jobs that this version reads, as in jobs/format.py
local ID_LENGTH = 40 -- length of every response id that jobs/ids.py creates

-- Returns the time of Redis's clock in ms. The scripts use no other clock.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Lowers all later times in a sorted set to `latest`, which is the latest time that a script would set now. A later
-- time was stored before the clock of Redis stepped back, for example by NTP, after a failover, or when a suspended
-- machine was resumed.
local function cap(key, latest, limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. latest, '+inf', 'LIMIT', 0, limit)) do
    redis.call('ZADD', key, 'XX', latest, id)
  end
end

-- Returns a table with the named fields of a hash. Fields that do not exist are nil.
local function fields(key, ...)
  local values, found = redis.call('HMGET', key, ...), {}
  for index, name in ipairs({ ... }) do found[name] = values[index] or nil end
  return found
end

-- Returns the recorded steps of a job, `steps`, with one more. Each step is a line with its kind, its time and further
-- words, as jobs/timeline.py reads them. The oldest steps are removed.
local function with_step(steps, ...)
  steps = (steps and steps .. '\n' or '') .. table.concat({ ... }, ' ')
  if #steps <= STEPS_BYTES then return steps end
  return string.sub(steps, string.find(steps, '\n', #steps - STEPS_BYTES, true) + 1)
end

-- Returns the recorded steps of a job with the HTTP status with which the model's endpoint refused the attempt, if it did.
local function with_http_error(steps, time, http_status)
  return http_status == '' and steps or with_step(steps, 'http_error', time, http_status)
end

-- Returns a list of alternating names and values without the pairs whose value is "".
local function without_empty(flat)
  local kept = {}
  for index = 1, #flat, 2 do
    if flat[index + 1] ~= '' then kept[#kept + 1], kept[#kept + 2] = flat[index], flat[index + 1] end
  end
  return kept
end

-- The name of a queue consists of a tier ("p:" for priority, "d:" for default, "f:" for flex) and the name of a
-- model. The default tier of models that no models file lists has the queue name "".
-- Each queue has a sorted set with the finish tags of its tenants, and a list of waiting ids for each tenant.
local function of_queue(prefix, name, queue_name) return prefix .. (queue_name == '' and name or name .. '|' .. queue_name) end
local function waiting_of(prefix, queue_name, tenant)
  return prefix .. (queue_name == '' and 'waiting:' or 'waiting|' .. queue_name .. '|') .. tenant
end
local function rank_of(queue_name) return ({ p = 1, f = 3 })[string.sub(queue_name, 1, 1)] or 2 end
local function model_of(queue_name) return string.sub(queue_name, 3) end

-- Returns true if this version can read the jobs of a queue. From format 2 on, the name of a queue begins with the
-- format of its jobs and "/".
local function is_readable(queue_name) return tonumber(string.match(queue_name, '^(%d+)/') or 1) <= FORMAT end

-- Notifies the current followers that a response is queued again. Later followers read this state from the job.
local function notify_queued(channel, number, delay, reason)
  redis.call('SPUBLISH', channel, cmsgpack.pack({ 'queued', number, delay, reason }))
end

-- The sorted set of the due times of each kind of delivery. A delivery is a message about a response to a program outside:
-- the webhook of an ended response ("hook"), the webhook of the feedback on a response ("feedback"), or a push to the devices
-- of the response's owner ("push"). It has the id of its response. A worker replaces a push by one push for each subscription of the owner, which has the id
-- "<response id>:<subscription id>".
local QUEUES = { ['hook'] = 'hooks', ['push'] = 'pushes', ['feedback'] = 'feedbacks' }

-- Counts an outcome of a delivery in the hash `numbers`, in a field such as "~sent" for a webhook, or "~push_sent".
local function count_delivery(prefix, kind, how)
  redis.call('HINCRBY', prefix .. 'numbers', (kind == 'push' and '~push_' or '~') .. how, 1)
  redis.call('PEXPIRE', prefix .. 'numbers', STRUCTURE_TTL)
end

local function end_delivery(prefix, kind, id, how)
  redis.call('DEL', prefix .. kind .. ':' .. id)
  redis.call('ZREM', prefix .. QUEUES[kind], id)
  count_delivery(prefix, kind, how)
  local name = prefix .. 'job:' .. id
  if kind == 'hook' and redis.call('EXISTS', name) == 1 then redis.call('HSET', name, 'hook_end', how .. ' ' .. now()) end
end

-- Queues a delivery with the fields in `...`, which is due at `time` in ms. Returns false if the queue is full.
local function queue_delivery(prefix, kind, id, time, ...)
  local queue, name = prefix .. QUEUES[kind], prefix .. kind .. ':' .. id
  if redis.call('ZCARD', queue) >= DELIVERIES_BOUND then
    count_delivery(prefix, kind, 'dropped')
    return false
  end
  redis.call('HSET', name, 'tries', 0, ...)
  redis.call('PEXPIRE', name, DELIVERY_TTL)
  redis.call('ZADD', queue, time, id)
  redis.call('PEXPIRE', queue, STRUCTURE_TTL)
  return true
end

-- Changes the message of a queued delivery. If a worker is sending it, `settle_delivery` queues it again.
local function refresh_delivery(name, ...)
  redis.call('HSET', name, 'changed', 1, ...)
  redis.call('PEXPIRE', name, DELIVERY_TTL)
end

-- Queues the deliveries of a response that has just ended. `job` has the fields `hook` and `push`, which are the delays
-- in ms, or nil if the response has no such delivery. A cancelled response gets no push, because its user has ended it.
local function queue_deliveries(prefix, id, job, status, time)
  local trace = job.trace or ''
  if job.hook then
    queue_delivery(prefix, 'hook', id, time + job.hook, 'status', status, 'ended', time, 'trace', trace, 'unseen', job.hook == '0' and 0 or 1)
  end
  if job.push and status ~= 'cancelled' then
    queue_delivery(prefix, 'push', id, time + job.push, 'status', status, 'ended', time, 'trace', trace, 'owner', job.owner)
  end
end

-- Removes the pushes of a response, whose subscriptions are listed in the field `targets` once they are known. Returns
-- true if a push was waiting.
local function drop_pushes(prefix, id)
  local name, queue, dropped = prefix .. 'push:' .. id, prefix .. QUEUES.push, 0
  for target in string.gmatch(redis.call('HGET', name, 'targets') or '', '%S+') do
    redis.call('DEL', name .. ':' .. target)
    dropped = dropped + redis.call('ZREM', queue, id .. ':' .. target)
  end
  redis.call('DEL', name)
  return dropped + redis.call('ZREM', queue, id) > 0
end

local function bury(prefix, what)
  redis.call('RPUSH', prefix .. 'dead', what)
  redis.call('LTRIM', prefix .. 'dead', -DEAD_BOUND, -1)
  redis.call('PEXPIRE', prefix .. 'dead', STRUCTURE_TTL)
end

-- Returns true if Redis has neither been restarted nor failed over since `history` was stored. Otherwise it may have
-- lost the last entries of a log.
local function is_same_history(history)
  return history == string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
end

-- Returns the ms between the claim of an attempt and the loss of its worker, if that was the last attempt, or 0.
local function lost_ms(job)
  if job.reason ~= 'worker_lost' then return 0 end
  local steps = job.steps or ''
  local began, lost = string.match(steps, '^.*claimed (%d+).-\nworker_lost (%d+)')
  if not began then began, lost = string.match(steps, '^.*claimed (%d+).-\nending (%d+) worker_lost') end
  return math.max(0, (lost or 0) - (began or 0))
end

-- Returns the data of a job for the worker to which the job was assigned. `job` is a table with the fields that this
-- function reads.
local function grant(prefix, id, job, time)
  return { id, job.job or '', tonumber(job.attempt or 0), tonumber(job.failures or 0), tonumber(job.cancel or 0),
    job.reason or '', math.max(0, time - (job.submitted or time)), job.length or redis.call('LLEN', prefix .. 'log:' .. id), job.queue_name or '',
    tonumber(job.steers or 0), job.checkpoint or '', job.checkpoint and not is_same_history(job.history) and 1 or 0,
    job.trace or '', math.max(0, time - (job.requeued or job.submitted or time)), lost_ms(job) }
end

-- Publishes a notification with the appended entries. If the entries exceed `most` bytes, publishes only their
-- number, because a read of the log then costs less than sending the entries to every subscriber.
local function notify(channel, first, frames, most)
  local bytes = 0
  for _, frame in ipairs(frames) do bytes = bytes + #frame end
  redis.call('SPUBLISH', channel, cmsgpack.pack({ first, bytes <= most and frames or #frames }))
end

-- Appends entries to a log that has `expected` entries, and returns the new length and false. If the log already
-- ends with these entries, returns the length and true: the caller repeats an append whose reply was lost.
-- Otherwise, returns nil and the actual length.
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

-- Returns the id of the response that an idempotency key created, and the word `same` if the request has the same
-- body or `reused` if the body differs. Returns nil if the key is unused.
-- A body has a fingerprint for each encryption key. `fingerprint` contains all of them, separated by commas. If any
-- fingerprint is the stored one, the body is the same.
local function known(prefix, key, fingerprint)
  if fingerprint == '' then return nil end
  local first, print = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  if not first or redis.call('EXISTS', prefix .. 'job:' .. first) == 0 then return nil end
  return first, string.find(',' .. fingerprint .. ',', ',' .. print .. ',', 1, true) and 'same' or 'reused'
end

-- Stores the id of the response that an idempotency key created, together with the request's first fingerprint.
local function remember(key, id, fingerprint, ttl)
  if fingerprint ~= '' then redis.call('SET', key, id .. ' ' .. string.match(fingerprint, '^[^,]+'), 'PX', ttl) end
end

-- Returns the number of entries in a compacted log. `compacted` has the number for each block, as in "2000,2000,17".
local function entries_of(compacted)
  local entries = 0
  for count in string.gmatch(compacted, '%d+') do entries = entries + count end
  return entries
end

-- Sets the TTL of an ended response to `ms`. The idempotency key of the response expires at the same time, and so do
-- its steers, if `steers` is their number.
local function keep(job, log, key, steers, ms, ...)
  if key then redis.call('PEXPIRE', key, ms, ...) end
  if steers then redis.call('PEXPIRE', (string.gsub(job, 'job:', 'steers:', 1)), ms, ...) end
  redis.call('PEXPIRE', log, ms, ...)
  redis.call('PEXPIRE', job, ms, ...)
end

-- Returns true if a job may read a stored turn. Only the jobs that hold a deleted turn may read it.
-- A stored turn is a hash with the fields `items` and `owner`, a field for each job that holds the turn, and the
-- field `deleted` if the turn was deleted.
local function turn_is_readable(key, job)
  local turn = redis.call('HMGET', key, 'owner', 'deleted', job)
  return turn[1] and (not turn[2] or turn[3])
end

-- Returns true if at least one job holds a stored turn.
local function turn_is_held(key)
  return redis.call('HLEN', key) - redis.call('HEXISTS', key, 'deleted') > 2
end
