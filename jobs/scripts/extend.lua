#!lua flags=allow-oom
-- Renews the leases of one worker, also when memory is full: an answer must not be lost to that.
-- KEYS  leases
-- ARGV  prefix, lease ms, (id, claim)...
-- Returns {"held" | "cancel" | "lost"...}, one for each id
-- May be repeated: a lease is set, not added to, and never moves back.
local prefix, till, answers, leases = ARGV[1], now() + ARGV[2], {}, {}
for index = 3, #ARGV, 2 do
  local id = ARGV[index]
  local f = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'claim', 'cancel', 'owner')
  if f[1] == 'running' and f[2] == ARGV[index + 1] then
    local tenant = tenant_of(f[4] or '')
    local of = leases[tenant] or {}
    of[#of + 1], of[#of + 2], leases[tenant] = till, id, of
    answers[#answers + 1] = f[3] and 'cancel' or 'held'
  else
    answers[#answers + 1] = 'lost'
  end
end
for tenant, of in pairs(leases) do lease(prefix, tenant, of) end
return answers
