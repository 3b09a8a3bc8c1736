#!lua flags=allow-oom
-- Reads one page of the conversations of an account, and removes those that have expired from the account's list.
-- KEYS  list_key
-- ARGV  prefix, account, after (id of the conversation before the page; "" for the first page), order ("asc" or "desc"
--       by the last change), limit
-- Returns {"unknown"} if the list does not have the conversation `after` · {"page", number of the last event of the
--         account's feed (-1 if there is none), that event (or ""), has more (0/1), {state as in `state_of`...}}
-- May be repeated: a conversation that has expired is removed once.
-- @include state_of
local index, page, most, chunk = 0, {}, tonumber(limit), 100
if after ~= '' then
  local score = redis.call('ZSCORE', list_key, after)
  if not score then return { 'unknown' } end
  if order == 'asc' then
    index = redis.call('ZCOUNT', list_key, '-inf', '(' .. score)
  else
    index = redis.call('ZCOUNT', list_key, '(' .. score, '+inf')
  end
end
local is_after, expired = after == '', {}
while #page <= most do
  local ids
  if order == 'asc' then
    ids = redis.call('ZRANGE', list_key, index, index + chunk - 1)
  else
    ids = redis.call('ZRANGE', list_key, index, index + chunk - 1, 'REV')
  end
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    if is_after and #page <= most then
      local state = state_of(prefix, id)
      if state then page[#page + 1] = state else expired[#expired + 1] = id end
    end
    is_after = is_after or id == after
  end
  index = index + chunk
end
for _, id in ipairs(expired) do redis.call('ZREM', list_key, id) end
local more = #page > most
if more then page[#page] = nil end
local last = redis.call('XREVRANGE', prefix .. 'feed:' .. account, '+', '-', 'COUNT', 1)[1]
return { 'page', last and tonumber(string.match(last[1], '^%d+')) or -1, last and last[2][2] or '', more and 1 or 0, page }
