#!lua flags=allow-oom
-- Renews the leases of one worker, even if Redis has reached maxmemory. Otherwise running responses would lose
-- their leases.
-- KEYS  leases_key
-- ARGV  prefix, lease_ms, held... (two for each job: id and claim)
-- Returns {"held" | "cancel" | "steered" | "gone" | "lost"...}, one for each id
-- May be repeated: the script sets the end of a lease to a new time, which is never earlier than the old time.
-- @include now tenant_of lease
local till, answers, leases = now() + lease_ms, {}, {}
for index = 1, #held, 2 do
  local id = held[index]
  local f = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'claim', 'cancel', 'owner', 'steers')
  if f[1] == 'running' and f[2] == held[index + 1] then
    local tenant = tenant_of(f[4] or '')
    local of = leases[tenant] or {}
    of[#of + 1], of[#of + 2], leases[tenant] = till, id, of
    answers[#answers + 1] = f[3] and 'cancel' or f[5] and 'steered' or 'held'
  else
    answers[#answers + 1] = f[1] and 'lost' or 'gone'
  end
end
for tenant, of in pairs(leases) do lease(prefix, tenant, of) end
return answers
