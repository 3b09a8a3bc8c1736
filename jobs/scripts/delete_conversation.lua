#!lua flags=allow-oom
-- Deletes a conversation. Accepted responses that refer to its items can read the items until they end.
-- The feed ends with the conversation: followers find that the conversation is missing.
-- KEYS  conversation_key
-- ARGV  prefix, id, viewer (as in `read.lua`), hold_ms (maximum lifetime of a job), ttl_ms (of the
--       list)
-- Returns 1 if the conversation existed, else 0
-- May be repeated: a second call finds no conversation, or one that is already marked as deleted.
-- @include fields may_see book_size keep_conversation drop_conversation is_listed add_list_event
local c = fields(conversation_key, 'owner', 'account', 'deleted')
if not c.owner or not may_see(c.owner, viewer) or c.deleted then return 0 end

book_size(prefix, c.account, id, nil)
if is_listed(c) then
  redis.call('ZREM', prefix .. 'conversation_list:' .. c.account, id)
  add_list_event(prefix, id, c, ttl_ms, 'deleted')
end
redis.call('SPUBLISH', prefix .. 'notifications:' .. id, 'gone')
if redis.call('HLEN', prefix .. 'pending:' .. id) > 0 then
  redis.call('HSET', conversation_key, 'deleted', 1)
  keep_conversation(prefix, id, hold_ms)
else
  drop_conversation(prefix, id)
end
return 1
