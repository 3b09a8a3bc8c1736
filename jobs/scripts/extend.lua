#!lua flags=allow-oom
-- Renews the leases of one worker, also when memory is full: an answer must not be lost to that.
-- KEYS  leases
-- ARGV  prefix, lease ms, (id, claim)...
-- Returns {"held" | "cancel" | "lost"...}, one for each id
-- May be repeated: a lease is set, not added to, and never moves back.
local prefix, till, answers = ARGV[1], now() + ARGV[2], {}
for index = 3, #ARGV, 2 do
  local id = ARGV[index]
  local f = redis.call('HMGET', prefix .. 'job:' .. id, 'status', 'claim', 'cancel', 'owner')
  if f[1] == 'running' and f[2] == ARGV[index + 1] then
    redis.call('ZADD', KEYS[1], 'GT', till, id)
    local running = running_of(prefix, tenant_of(f[4] or ''))
    redis.call('ZADD', running, 'GT', till, id)
    redis.call('PEXPIRE', running, STRUCTURE_TTL)
    answers[#answers + 1] = f[3] and 'cancel' or 'held'
  else
    answers[#answers + 1] = 'lost'
  end
end
redis.call('PEXPIRE', KEYS[1], STRUCTURE_TTL)
return answers
