#!lua flags=allow-oom
-- Removes a response from the pending responses of its conversation, without appending its items: the response was not
-- accepted, or no longer exists. If the conversation was deleted and no pending response is left, its items are removed.
-- KEYS  conversation_key
-- ARGV  prefix, id, response
-- Returns 1
-- May be repeated: a response that is not pending is not changed.
-- @include end_pending
if redis.call('HDEL', prefix .. 'pending:' .. id, response) == 1 then end_pending(prefix, id) end
return 1
