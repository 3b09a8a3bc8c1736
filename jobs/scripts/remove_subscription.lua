#!lua flags=allow-oom
-- Removes a push subscription that has not changed since the caller read it. Another owner may have taken it over.
-- KEYS  subscription_key
-- ARGV  before (the value that the caller has read)
-- Returns 1 if the subscription was removed, else 0
-- May be repeated: a second call finds no subscription.
if redis.call('GET', subscription_key) ~= before then return 0 end
return redis.call('DEL', subscription_key)
