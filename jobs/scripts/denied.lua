#!lua flags=no-writes
-- Returns the commands that the user of this connection may not run. Runs none of them.
-- KEYS  example_key
-- ARGV  commands... (words separated by spaces, in which KEY stands for example_key)
-- Returns the commands that the permissions (ACL) of the user do not allow. A command that this version of Redis does
-- not have is not one of them
-- May be repeated: the script only reads.
local denied = {}
for _, command in ipairs(commands) do
  local words = {}
  for word in string.gmatch(command, '%S+') do words[#words + 1] = word == 'KEY' and example_key or word end
  local exists, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if exists and not allowed then denied[#denied + 1] = command end
end
return denied
