-- Applies the limits of accounts. This file may use the functions of _shared.lua, _provider.lua and _fair_queue.lua.
--
-- An account is a tenant, or an end user of a tenant. The account of an end user is `tenant/subject`. A client without
-- a subject has the account `tenant/@digest`, with the digest of its address. A job is booked to its tenant and, if
-- end users have limits, to its end user.
--
-- When a job is accepted, its estimated tokens and cost are booked. When the job ends, the actual usage replaces the
-- estimate. So a budget includes unfinished jobs, but no jobs that ended without calling a model.

local DAY = 24 * 3600 * 1000
local MINUTE = 60 * 1000
local USED_TTL = 3 * DAY

-- The names of all limits in a tenant's settings, in the order in which scripts pass the defaults to `admit`. Limits
-- whose names begin with `subject_` apply to each end user of the tenant.
local LIMITS = { 'waiting', 'requests_per_minute', 'tokens_per_day', 'money_per_day', 'input_tokens',
  'subject_running', 'subject_requests_per_minute', 'subject_tokens_per_day', 'subject_money_per_day', 'waiting_bytes' }

local function used_of(prefix, account, day) return prefix .. 'used:' .. day .. ':' .. account end
local function open_of(prefix, account) return prefix .. 'open:' .. account end
local function tenants_of(prefix) return prefix .. 'tenants' end
local function usage_of(prefix, day) return prefix .. 'usage:' .. day end
local function rate_of(prefix, account) return prefix .. 'rate:' .. account end

-- Returns the key of a hash that maps the id of each unfinished prompt to its size in bytes and its tenant. The field
-- "~" is the sum of all sizes, and a field "~acme" is the sum for the tenant `acme`.
local function sizes_of(prefix) return prefix .. 'sizes' end

-- Returns two sums in bytes: the size of all unfinished prompts, and the size of the tenant's unfinished prompts.
local function sum_sizes(prefix, tenant)
  local sums = redis.call('HMGET', sizes_of(prefix), '~', '~' .. tenant)
  return tonumber(sums[1] or 0), tonumber(sums[2] or 0)
end

-- Stores the size of a new prompt. `all` and `own` are the sums that `sum_sizes` returned, without this prompt.
local function add_size(prefix, id, tenant, bytes, all, own)
  redis.call('HSET', sizes_of(prefix), id, bytes .. ' ' .. tenant, '~', all + bytes, '~' .. tenant, own + bytes)
  if all == 0 then redis.call('PEXPIRE', sizes_of(prefix), STRUCTURE_TTL) end
end

-- Removes the size of a prompt, and subtracts it from both sums. A sum of 0 is removed.
local function drop_size(prefix, id, tenant)
  local sizes, own = sizes_of(prefix), '~' .. tenant
  local stored = redis.call('HMGET', sizes, id, '~', own)
  local bytes, owner = string.match(stored[1] or '', '^(%d+) (.*)$')
  if not bytes then return end
  -- The caller does not know the tenant of a job whose record has expired.
  if owner ~= tenant then return drop_size(prefix, id, owner) end
  local removed, left = { id }, {}
  for index, total in ipairs({ '~', own }) do
    local sum = (stored[index + 1] or 0) - bytes
    if sum > 0 then left[#left + 1], left[#left + 2] = total, sum else removed[#removed + 1] = total end
  end
  redis.call('HDEL', sizes, unpack(removed))
  if #left > 0 then redis.call('HSET', sizes, unpack(left)) end
end

-- Adds tokens and money to an account's usage on a day. If the field is new, its key may be new too, so the TTL is
-- set. Returns the account's tokens on this day, or nil if no tokens were added.
local function use(prefix, account, day, tokens, money)
  local used = used_of(prefix, account, day)
  local total = tokens ~= 0 and redis.call('HINCRBY', used, 'tokens', tokens) or nil
  if total == tokens then redis.call('PEXPIRE', used, USED_TTL) end
  if money ~= 0 then
    redis.call('HINCRBYFLOAT', used, 'money', money)
    redis.call('PEXPIRE', used, USED_TTL)
  end
  return total
end

-- Ranks a tenant by the tokens that it has used on a day. An estimate that is exact does not change the number of
-- tokens, and then the next job ranks the tenant.
local function rank_usage(prefix, tenant, day, total)
  local usage = usage_of(prefix, day)
  if redis.call('ZADD', usage, total, tenant) == 1 then redis.call('PEXPIRE', usage, USED_TTL) end
end

-- Ranks a tenant by the number of its unfinished jobs, of which it now has `more`.
local function rank_tenant(prefix, tenant, more)
  local open = tonumber(redis.call('ZINCRBY', tenants_of(prefix), more, tenant))
  if open <= 0 then
    redis.call('ZREM', tenants_of(prefix), tenant)
  elseif open == more then
    redis.call('PEXPIRE', tenants_of(prefix), STRUCTURE_TTL)
  end
end

-- Books the estimated usage of an accepted job, and returns the day on which it is booked. The job will have ended
-- after `kept` ms at the latest.
local function reserve(prefix, accounts, id, time, tokens, money, kept)
  local day = math.floor(time / DAY)
  for _, account in ipairs(accounts) do
    use(prefix, account, day, tokens, money)
    redis.call('ZADD', open_of(prefix, account), time + kept, id)
    redis.call('PEXPIRE', open_of(prefix, account), STRUCTURE_TTL)
  end
  rank_tenant(prefix, accounts[1], 1)
  return day
end

-- Books the actual usage of an ended job in the place of its estimate. Further calls have no effect. -1 means that
-- the usage is unknown: then the estimate stays booked if an attempt was started, and is removed if not. `job` is a
-- table with the fields that this function reads.
local function book(prefix, id, job, tenant, tokens, money)
  if not job.day then return end
  local asked, reserved, cost = job.attempt ~= '0', tonumber(job.tokens or 0), tonumber(job.money or 0)
  if tokens < 0 then tokens = asked and reserved or 0 end
  if money < 0 then money = asked and cost or 0 end
  redis.call('HDEL', prefix .. 'job:' .. id, 'day')
  for _, account in ipairs({ tenant, job.account }) do
    local total = use(prefix, account, job.day, tokens - reserved, money - cost)
    local open = redis.call('ZREM', open_of(prefix, account), id)
    if account == tenant then
      if total then rank_usage(prefix, tenant, job.day, total) end
      if open == 1 then rank_tenant(prefix, tenant, -1) end
    end
  end
end

-- Returns the number of unfinished jobs of an account. Removes those whose records have expired.
local function count_open(prefix, account, time)
  local expired = redis.call('ZREMRANGEBYSCORE', open_of(prefix, account), '-inf', time)
  if expired > 0 and account == tenant_of(account) then rank_tenant(prefix, account, -expired) end
  return redis.call('ZCARD', open_of(prefix, account))
end

-- Checks whether an account's limits per minute and per day allow one more job. Charges nothing. If a limit is
-- reached, returns {"limited", name, limit, ms to wait}. Otherwise returns nil and {requests per minute, left, tokens
-- per day, left}, in which each `left` is the number that remains after this job.
-- `limit` contains the limits by their names in LIMITS, where 0 means no limit. `kind` is "" to check the limits of a
-- tenant, or "subject_" to check the limits of an end user.
local function check_account(prefix, account, kind, limit, time, tokens, money)
  local function limited(what, wait) return { 'limited', kind .. what, tostring(limit[kind .. what]), math.ceil(wait) } end
  local most, rate, budget = limit[kind .. 'tokens_per_day'], limit[kind .. 'requests_per_minute'], limit[kind .. 'money_per_day']
  local tokens_left, left = 0, 0
  if most > 0 or budget > 0 then
    local used = redis.call('HMGET', used_of(prefix, account, math.floor(time / DAY)), 'tokens', 'money')
    local tomorrow = DAY - time % DAY
    tokens_left = most - (used[1] or 0) - tokens
    if most > 0 and tokens_left < 0 then return limited('tokens_per_day', tomorrow) end
    if budget > 0 and (used[2] or 0) + money > budget * 1e6 then return limited('money_per_day', tomorrow) end
  end
  if rate > 0 then -- a token bucket with the capacity of one minute's requests
    local b = redis.call('HMGET', rate_of(prefix, account), 'left', 'at')
    left = math.min(rate, (b[1] or rate) + math.max(0, time - (b[2] or time)) * rate / MINUTE)
    if tonumber(b[2] or 0) > time then redis.call('HSET', rate_of(prefix, account), 'at', time) end
    if left < 1 then return limited('requests_per_minute', (1 - left) * MINUTE / rate) end
    left = left - 1
  end
  return nil, { rate, left, most, math.max(0, tokens_left) }
end

-- Checks whether a tenant and its end user may submit one more job, and charges the request to them. `account` is the
-- account of the end user, or "" if no limits of end users apply. `own_bytes` is the size of the tenant's unfinished
-- prompts including this one. It is nil for a request that ends at once, because limits of unfinished prompts do not
-- apply to such a request. `defaults` contains the default limits, in the order of LIMITS.
-- If a limit is reached, returns {"limited", name, limit, ms to wait}. Otherwise returns nil, the accounts to which
-- the job has to be booked, and {requests per minute, left, tokens per day, left}. Each limit in this table is the one
-- of the account with the lower remaining number.
local function admit(prefix, tenant, account, time, tokens, money, input, own_bytes, defaults)
  local settings = prefix .. 'tenant:' .. tenant
  local set = redis.call('HMGET', settings, 'weight', 'running', unpack(LIMITS))
  local limit, limits_users = {}, false
  for index, name in ipairs(LIMITS) do
    limit[name] = tonumber(set[index + 2] or defaults[index])
    limits_users = limits_users or (limit[name] > 0 and string.find(name, '^subject_'))
  end
  local function limited(what, wait) return { 'limited', what, tostring(limit[what]), wait } end

  if limit.input_tokens > 0 and input > limit.input_tokens then return limited('input_tokens', 0) end
  if own_bytes and limit.waiting > 0
    and count_open(prefix, tenant, time) - count_running(prefix, tenant, time) >= limit.waiting then
    return limited('waiting', 5000)
  end
  if own_bytes and limit.waiting_bytes > 0 and own_bytes > limit.waiting_bytes then
    return limited('waiting_bytes', 5000)
  end
  local refusal, left = check_account(prefix, tenant, '', limit, time, tokens, money)
  if refusal then return refusal end
  local accounts, lefts = { tenant }, { left }
  if account ~= '' and limits_users then
    if own_bytes and limit.subject_running > 0 and count_open(prefix, account, time) >= limit.subject_running then
      return limited('subject_running', 5000)
    end
    refusal, left = check_account(prefix, account, 'subject_', limit, time, tokens, money)
    if refusal then return refusal end
    accounts[2], lefts[2] = account, left
  end

  local least = { 0, 0, 0, 0 }
  for index, each in ipairs(lefts) do
    if each[1] > 0 then
      redis.call('HSET', rate_of(prefix, accounts[index]), 'left', each[2], 'at', time)
      redis.call('PEXPIRE', rate_of(prefix, accounts[index]), 2 * MINUTE)
    end
    for at = 1, 3, 2 do
      if each[at] > 0 and (least[at] == 0 or each[at + 1] < least[at + 1]) then
        least[at], least[at + 1] = each[at], math.floor(each[at + 1])
      end
    end
  end
  for index = 1, #LIMITS + 2 do
    if set[index] then
      redis.call('PEXPIRE', settings, TENANT_TTL)
      break
    end
  end
  return nil, accounts, least
end

-- Removes the id of a job that has ended or was deleted from the sets of unfinished jobs.
local function close(prefix, id, tenant)
  unlease(prefix, tenant, id)
  drop_size(prefix, id, tenant)
  redis.call('ZREM', prefix .. 'open', id)
  redis.call('ZREM', prefix .. 'followed', id)
end

-- Stores and queues a new job, writes the first entries of its log, and returns the number of the job. `new` is a
-- table with the job's fields, its first entries, and the settings that apply to it.
local function store_job(prefix, id, new)
  local job_key, log_key = prefix .. 'job:' .. id, prefix .. 'log:' .. id
  local number = (new.first and enqueue_first or enqueue)(prefix, new.tenant, new.queue_name, id, new.time)
  redis.call('HSET', job_key, unpack(without_empty({ 'status', 'queued', 'owner', new.owner, 'job', new.record, 'attempt', 0,
    'failures', 0, 'submitted', new.time, 'until', new.time + new.max_wait_ms, 'fail_on_death', new.fail_on_death, 'tokens', new.tokens,
    'money', new.money, 'day', reserve(prefix, new.accounts, id, new.time, new.tokens, new.money, new.ttl_ms), 'number', number,
    'queue_name', new.queue_name, 'context_bytes', new.context_bytes, 'account', new.accounts[2] or '', 'begins', new.first_entry,
    'hook', new.hook, 'push', new.push_wait, 'unstored', new.unstored, 'key', new.key, 'trace', new.trace })))
  redis.call('PEXPIRE', job_key, new.ttl_ms)
  add_size(prefix, id, new.tenant, new.bytes, new.all_bytes, new.own_bytes)
  redis.call('RPUSH', log_key, unpack(new.entries))
  redis.call('PEXPIRE', log_key, new.ttl_ms)
  redis.call('ZADD', prefix .. 'open', new.time + new.inspect_ms, id)
  if new.open == 0 then redis.call('PEXPIRE', prefix .. 'open', STRUCTURE_TTL) end
  if new.orphan_ms ~= '' then
    redis.call('ZADD', prefix .. 'followed', new.time + new.orphan_ms, id)
    redis.call('PEXPIRE', prefix .. 'followed', STRUCTURE_TTL)
  end
  notify(prefix .. 'notifications:' .. id, 0, new.entries, tonumber(new.max_bytes))
  return number
end

-- Appends the last entries to a log and ends its job. `e` has the arguments of `finish.lua`, and `job` the fields that
-- this function reads. Returns the reply of `finish.lua`, and true if this call has ended the job.
local FINISHED = { 'status', 'claim', 'compacted', 'owner', 'account', 'queue_name', 'charged', 'start_tag', 'alone', 'day', 'tokens',
  'money', 'attempt', 'key', 'hook', 'push', 'steers', 'fail_on_death', 'unstored', 'checkpoint', 'trace', 'steps' }
local function finish_job(prefix, id, job, e)
  local expected, job_key, log_key = tonumber(e.expected), prefix .. 'job:' .. id, prefix .. 'log:' .. id
  if not job.status then return { 'gone' } end
  local ended = job.status ~= 'running'
  if job.claim ~= e.claim or (ended and job.status ~= e.status) then return { 'fenced' } end
  if ended then
    -- Nothing is appended after the last event. So if this call is repeated, the log has exactly the length that the
    -- first call produced.
    local had = job.compacted and entries_of(job.compacted) or redis.call('LLEN', log_key)
    if had ~= expected + #e.entries then return { 'fenced' } end
    -- Only the claim that ended the job can compact its log, so this call must be a repetition. The entries of a
    -- compacted log cannot be compared.
    if job.compacted then return { 'ok', had } end
  elseif tonumber(e.steers) >= 0 and tonumber(job.steers or 0) ~= tonumber(e.steers) then
    return { 'steered', tonumber(job.steers or 0) }
  end
  local length, found = push(log_key, expected, e.entries)
  if not length then return { 'diverged', found } end
  if found or ended then return { 'ok', length } end
  local time, tenant, tokens = now(), tenant_of(job.owner), tonumber(e.tokens)
  redis.call('HSET', job_key, unpack(without_empty({ 'status', e.status, 'ended', time, 'successor', e.successor,
    'steps', with_http_error(job.steps, time, e.http_status) or '' })))
  if job.checkpoint then redis.call('HDEL', job_key, 'checkpoint') end
  keep(job_key, log_key, job.key, job.steers, e.retention_ms)
  settle(prefix, job, tenant, tokens)
  book(prefix, id, job, tenant, tokens, tonumber(e.money))
  close(prefix, id, tenant)
  if e.successor == '' or e.successor == 'pending' then queue_deliveries(prefix, id, job, e.status, time) end
  if e.to_dead == '1' then bury(prefix, id) end
  notify(prefix .. 'notifications:' .. id, expected, e.entries, tonumber(e.max_bytes))
  return { 'ok', length }, true
end
