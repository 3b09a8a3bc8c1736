#!lua flags=no-writes
-- Returns the numbers from which queue positions are computed. The position of a job is its number minus the number
-- of the first job in the same list, plus one, plus the number of the tenant's jobs that wait for the same model in
-- higher tiers.
-- KEYS  numbers_key
-- ARGV  prefix, tenants... (two for each list: queue_name and owner)
-- Returns {pace in ms ("" if unknown), (number of the first job (0 if none), jobs in higher tiers, reason)...}
--         The reason for waiting is "own_limit" if the tenant has reached its limit of running jobs, "provider_rate"
--         if the provider's limit is reached or the model is paused, and "" if the workers are busy.
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
