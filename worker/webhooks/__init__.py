"""Builds, signs and sends webhooks. The queue of webhooks is in `jobs.deliveries`."""
