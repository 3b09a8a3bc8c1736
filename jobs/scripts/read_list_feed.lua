#!lua flags=no-writes
-- Reads the events of an account's feed from a sequence number on, with the state of each conversation that they name.
-- KEYS  list_key
-- ARGV  prefix, account, first (number of the first event; -1 to read no events), limit (of events)
-- Returns {number of the last event (-1 if there is none), {{number, event, state as in `state_of`, or false if the
--         conversation does not exist}...}}
-- May be repeated: it writes nothing.
-- @include state_of events_of
local last = redis.call('XREVRANGE', prefix .. 'feed:' .. account, '+', '-', 'COUNT', 1)[1]
local events = tonumber(first) >= 0 and events_of(prefix, account, first, limit) or {}
for _, event in ipairs(events) do
  event[3] = state_of(prefix, cmsgpack.unpack(event[2])[3]) or false
end
return { last and tonumber(string.match(last[1], '^%d+')) or -1, events }
