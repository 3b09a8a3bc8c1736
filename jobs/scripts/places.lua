#!lua flags=no-writes
-- Where each tenant's queue stands: a place is a job's number less the head's, plus one, plus what the
-- tenant has waiting for the same model in the tiers above.
-- KEYS  numbers
-- ARGV  prefix, (lane, owner)...
-- Returns {pace in ms ("" where unknown), (head number (or 0), how many above)...}
-- May be repeated: it writes nothing.
local prefix, answer = ARGV[1], { redis.call('HGET', KEYS[1], '~pace') or '' }
for index = 2, #ARGV, 2 do
  local lane, tenant, above = ARGV[index], tenant_of(ARGV[index + 1]), 0
  local model = model_of(lane)
  for _, other in ipairs({ 'p:' .. model, model == '' and '' or 'd:' .. model }) do
    if rank_of(other) < rank_of(lane) then
      above = above + redis.call('LLEN', ready_of(prefix, other, tenant))
    end
  end
  local head = redis.call('LINDEX', ready_of(prefix, lane, tenant), 0)
  answer[index] = head and tonumber(redis.call('HGET', prefix .. 'job:' .. head, 'number') or 0) or 0
  answer[index + 1] = above
end
return answer
