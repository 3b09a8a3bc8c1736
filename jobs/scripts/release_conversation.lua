#!lua flags=allow-oom
-- Makes a response no longer pending in its conversation, without appending its items, because the response was not
-- accepted or no longer exists. If the conversation was deleted and has no other pending response, it is removed.
-- KEYS  conversation_key
-- ARGV  prefix, id, response
-- Returns 1
-- May be repeated: a response that is not pending is not changed.
-- @include drop_pending end_pending
drop_pending(prefix, id, response)
end_pending(prefix, id)
return 1
