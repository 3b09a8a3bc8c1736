"""The worker: takes jobs from Redis, calls models and appends their output to response logs."""
