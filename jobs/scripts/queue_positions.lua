#!lua flags=no-writes
-- Returns the heads of waiting lists, from which queue positions follow: a position is the job's number minus
-- the head's, plus one, plus the number of the tenant's jobs that wait for the same model in higher tiers.
-- KEYS  numbers_key
-- ARGV  prefix, tenants... (two each: queue_name, owner)
-- Returns {pace in ms ("" if unknown), (head number (0 if none), jobs in higher tiers, reason)...}; the reason
--         for waiting is "own_limit": the tenant has reached its limit of running jobs; "provider_rate": the
--         provider's limit is reached or its model is paused; or "": the workers are busy
-- May be repeated: it writes nothing.
-- @include now waiting_of rank_of model_of pause_of pace_of tenant_of held_of
local time, answer = now(), { redis.call('HGET', numbers_key, '~pace') or '' }
for index = 1, #tenants, 2 do
  local at = #answer
  local queue_name, tenant, above = tenants[index], tenant_of(tenants[index + 1]), 0
  local model = model_of(queue_name)
  for _, other in ipairs({ 'p:' .. model, model == '' and '' or 'd:' .. model }) do
    if rank_of(other) < rank_of(queue_name) then
      above = above + redis.call('LLEN', waiting_of(prefix, other, tenant))
    end
  end
  local head = redis.call('LINDEX', waiting_of(prefix, queue_name, tenant), 0)
  answer[at + 1] = head and tonumber(redis.call('HGET', prefix .. 'job:' .. head, 'number') or 0) or 0
  answer[at + 2] = above
  local b = redis.call('HMGET', pace_of(prefix, model), 'requests', 'tokens', 'at')
  local dry = b[3] and math.abs(time - b[3]) < 1500 and (tonumber(b[1]) < 1 or tonumber(b[2]) <= 0)
  if redis.call('HEXISTS', held_of(prefix, tenant), queue_name) == 1 then
    answer[at + 3] = 'own_limit'
  elseif dry or redis.call('EXISTS', pause_of(prefix, model)) == 1 then
    answer[at + 3] = 'provider_rate'
  else
    answer[at + 3] = ''
  end
end
return answer
