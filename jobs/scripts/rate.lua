#!lua
-- Stores the feedback on a response in the place of earlier feedback, and queues its webhook. If a webhook is still queued, it
-- reports the new feedback instead; if a worker is sending the webhook, it is sent once more after that.
-- KEYS  job_key, feedback_key, queue_key
-- ARGV  prefix, id, feedback (encoded), webhook (0/1: 1 queues a webhook)
-- Returns the number of changes of the feedback so far, or 0 if the response does not exist
-- May be repeated: feedback that is already stored is no change, and queues no webhook.
-- @include now fields queue_delivery refresh_delivery
local job = fields(job_key, 'status', 'owner', 'feedback', 'feedback_changes', 'trace')
if not job.status then return 0 end
if job.feedback == feedback then return tonumber(job.feedback_changes) end
local changes, time = redis.call('HINCRBY', job_key, 'feedback_changes', 1), now()
redis.call('HSET', job_key, 'feedback', feedback)
if webhook == '0' then return changes end
if redis.call('ZSCORE', queue_key, id) and redis.call('EXISTS', feedback_key) == 1 then
  refresh_delivery(feedback_key, 'status', job.status, 'ended', time, 'message', feedback, 'changes', changes)
else
  queue_delivery(prefix, 'feedback', id, time, 'status', job.status, 'ended', time, 'owner', job.owner, 'trace', job.trace or '',
    'message', feedback, 'changes', changes)
end
return changes
