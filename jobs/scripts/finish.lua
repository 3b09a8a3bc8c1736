#!lua
-- Appends the last entries to a log and ends the job, in one atomic step. So a log has only one terminal event,
-- which is its last event.
-- KEYS  job_key, log_key, channel
-- ARGV  prefix, id, claim, expected (length of the log), max_bytes (of the entries in a notification),
--       status, retention_ms, to_dead (0/1), tokens (actual usage; -1: unknown),
--       money (actual cost in millionths; -1: unknown), steers (that the worker has read; -1: any number),
--       successor ("pending" if the steers wait for results that the client owes, else ""),
--       http_status (with which the model's endpoint refused the last attempt; "": none), entries...
-- Returns {"ok", length} · {"gone"} · {"fenced"} · {"diverged", length} · {"steered", steers}: read the steers again
-- May be repeated: if this claim has ended the job and the log ends with these entries, an earlier call succeeded.
-- @include fields FINISHED finish_job
local reply = finish_job(prefix, id, fields(job_key, unpack(FINISHED)), { claim = claim, expected = expected, max_bytes = max_bytes,
  status = status, retention_ms = retention_ms, to_dead = to_dead, tokens = tokens, money = money, steers = steers,
  successor = successor, http_status = http_status, entries = entries })
return reply
