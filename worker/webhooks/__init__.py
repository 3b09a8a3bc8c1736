"""Builds, signs and sends webhooks. Their queue is in `jobs.hooks`."""
