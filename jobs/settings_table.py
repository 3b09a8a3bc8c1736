"""The table of all settings, from which `settings.py` makes parser, help and documentation.

A new setting needs an entry here, and a field in the Config of the program that reads it.
"""

from __future__ import annotations

from typing import Final

from runtime.supervisor import MAX_PROCESSES

from .models import DAY, MAX_CONCURRENCY
from .names import MAX_PARTITIONS
from .setting import ALL, CLIENT, EACH, SERVER, WORKER, choice, limit, number, text

_TABLE: Final = (
    text("REDIS_URL", ALL, "redis://127.0.0.1:6379/0", "[the URL](#one-redis-or-several) of Redis"),
    text(
        "OPENAI_BASE_URL",
        WORKER,
        "",
        "the model's endpoint, which streams chat completions",
        shown="OpenAI's",
    ),
    text("OPENAI_API_KEY", WORKER, "", "its key; required if no `OPENAI_BASE_URL` is set"),
    text(
        "HOLDLINE_HOST",
        SERVER,
        "127.0.0.1",
        "the address to listen on; without API keys or tokens only a loopback address is allowed",
    ),
    number(
        "HOLDLINE_PORT",
        SERVER,
        8080,
        0,
        65_535,
        "the port to listen on; 0: any free port, which the log names",
    ),
    text(
        "HOLDLINE_MODEL",
        ALL,
        "",
        "the model for requests that name none; without it such requests are refused",
    ),
    text("HOLDLINE_MODELS", ALL, "", "the file of [models](#several-models) and prompt templates"),
    number("HOLDLINE_PING_SECONDS", SERVER, 25, 0.05, 300, "the interval of pings and heartbeats"),
    number(
        "HOLDLINE_MAX_BODY_BYTES",
        SERVER,
        1_048_576,
        1024,
        67_108_864,
        "the largest request body or message",
    ),
    number(
        "HOLDLINE_MAX_CONTEXT_BYTES",
        SERVER,
        4_194_304,
        1024,
        67_108_864,
        "the largest prompt that a request may [become](limits.md#what-a-request-becomes): its "
        "input, the turns before it, the items that it refers to and its template",
    ),
    number(
        "HOLDLINE_MAX_SOCKETS",
        SERVER,
        0,
        0,
        1_000_000,
        "sockets of one server process; 0: no limit. Beyond it 429 "
        "`websocket_connection_limit_reached`",
    ),
    number(
        "HOLDLINE_REQUEST_SECONDS",
        SERVER,
        30,
        0.1,
        3600,
        "time for a client to send the head of its first request, and the body of each request",
    ),
    number(
        "HOLDLINE_UNSTORED_SECONDS",
        SERVER,
        60,
        0,
        DAY,
        "how long a response that is [not stored](protocol.md#unstored-responses) is kept "
        "after its delivery",
    ),
    text(
        "HOLDLINE_ALLOWED_ORIGINS",
        SERVER,
        "",
        "[other sites](#sites-and-apps) whose pages may use the server, separated by commas: "
        "`https://shop.example`",
    ),
    text(
        "HOLDLINE_ALLOWED_HOSTS",
        SERVER,
        "",
        "[names](#sites-and-apps) that `Host` may have besides those of loopback, separated by "
        "commas: `chat.example`",
        shown="with keys or tokens: any",
    ),
    text(
        "HOLDLINE_TRUSTED_PROXIES",
        SERVER,
        "",
        "addresses and networks of proxies whose `X-Forwarded-For` tells the [address of a "
        "client](#limits-of-end-users), separated by commas: `127.0.0.1,10.0.0.0/8`",
    ),
    text(
        "HOLDLINE_API_KEYS",
        SERVER,
        "",
        "where [API keys](#keys-and-tokens-in-five-minutes) are: `redis`, or the path of a file",
    ),
    text(
        "HOLDLINE_JWT_KEYS",
        SERVER,
        "",
        "the file with the keys that verify [tokens](#keys-and-tokens-in-five-minutes): a "
        "JSON Web Key Set",
    ),
    text(
        "HOLDLINE_JWKS_URL",
        SERVER,
        "",
        "the URL of an identity provider's JSON Web Key Set: `https`, or `http` on loopback",
    ),
    text("HOLDLINE_JWT_ISSUER", SERVER, "", "the `iss` that a token must have", shown="any"),
    text("HOLDLINE_JWT_AUDIENCE", SERVER, "", "the `aud` that a token must have", shown="any"),
    text("HOLDLINE_JWT_TENANT_CLAIM", SERVER, "tenant", "the claim that names the tenant"),
    number(
        "HOLDLINE_JWT_MAX_SECONDS",
        SERVER,
        3600,
        60,
        DAY,
        "the longest time for which a token may still be valid",
    ),
    number("HOLDLINE_AUTH_SECONDS", SERVER, 10, 0.05, 300, "time for a socket to authenticate"),
    number(
        "HOLDLINE_AUTH_GRACE_SECONDS",
        SERVER,
        10,
        0,
        300,
        "how long a socket stays open after its token has expired",
    ),
    number(
        "HOLDLINE_WAIT_REPLICAS",
        SERVER,
        0,
        0,
        10,
        "replicas that must have a prompt before it is accepted",
    ),
    number(
        "HOLDLINE_PROCESSES",
        EACH,
        1,
        1,
        MAX_PROCESSES,
        "[processes](#several-of-everything) of one server or worker, one for each core; "
        "`--processes` overrides it",
    ),
    number(
        "HOLDLINE_CONCURRENCY",
        WORKER,
        100,
        1,
        MAX_CONCURRENCY,
        "responses that one worker process generates at once",
    ),
    number(
        "HOLDLINE_FIRST_TOKEN_SECONDS",
        WORKER,
        120,
        0.05,
        DAY,
        "time until the model's first piece of text",
    ),
    number(
        "HOLDLINE_STALL_TIMEOUT_SECONDS", WORKER, 60, 0.05, DAY, "time between two pieces of text"
    ),
    number(
        "HOLDLINE_MAX_OUTPUT_BYTES",
        ALL,
        4_000_000,
        1,
        100_000_000,
        "the longest output of one response: all its text, and as much again of everything else "
        "(calls, annotations, log probabilities, passed items)",
    ),
    number(
        "HOLDLINE_SHUTDOWN_GRACE_SECONDS",
        ALL,
        20,
        0,
        3600,
        "time for a stopping worker to finish its responses, and for a stopping server to answer "
        "requests that wait without a stream",
    ),
    number(
        "HOLDLINE_REDIS_RETRY_SECONDS",
        WORKER,
        120,
        0,
        3600,
        "how long a worker keeps the output of a response that [Redis does not "
        "take](#when-redis-is-away-full-or-emptied); then it abandons the job",
    ),
    number(
        "HOLDLINE_MAX_UNSENT_BYTES",
        WORKER,
        1_000_000,
        1,
        100_000_000,
        "how much output of one response waits in a worker for Redis; beyond it the model waits",
    ),
    number(
        "HOLDLINE_MAX_HELD_BYTES",
        WORKER,
        67_108_864,
        1,
        10_000_000_000,
        "memory that the decoded prompts of a worker process may take: their bytes, and "
        "100 for each value in them. Beyond it no further job is claimed",
    ),
    number("HOLDLINE_MODEL_TIMEOUT_SECONDS", ALL, 900, 0.1, DAY, "time for one call of the model"),
    number(
        "HOLDLINE_LEASE_SECONDS",
        ALL,
        15,
        0.1,
        600,
        "how long a worker that does not renew its lease keeps a response",
    ),
    number("HOLDLINE_MAX_ATTEMPTS", ALL, 3, 1, 100, "attempts of one response that may fail"),
    number(
        "HOLDLINE_MAX_WAIT_SECONDS",
        ALL,
        3600,
        0.1,
        7 * DAY,
        "the longest time for a prompt in the queue",
    ),
    number(
        "HOLDLINE_MAX_WAITING", ALL, 10_000, 1, 1_000_000, "prompts in the queue of a partition"
    ),
    number(
        "HOLDLINE_MAX_WAITING_BYTES",
        ALL,
        1 << 30,
        1 << 20,
        1 << 40,
        "bytes of the prompts of a partition that have not ended, with the turns before them",
    ),
    choice(
        "HOLDLINE_ON_ORPHAN",
        ALL,
        ("go_on", "cancel"),
        "`go_on` or `cancel` a response that [nobody follows](#orphans)",
    ),
    number(
        "HOLDLINE_ORPHAN_SECONDS",
        ALL,
        60,
        0.1,
        DAY,
        "time without a follower until a response is cancelled",
    ),
    limit(
        "HOLDLINE_TENANT_SOCKETS",
        SERVER,
        1_000_000,
        "sockets of one [tenant](#tenants) on one server process",
    ),
    limit(
        "HOLDLINE_TENANT_RUNNING",
        ALL,
        1_000_000,
        "responses of one [tenant](#tenants) that run at once",
    ),
    limit("HOLDLINE_TENANT_WAITING", ALL, 1_000_000, "prompts of one tenant in the queue"),
    limit(
        "HOLDLINE_TENANT_WAITING_BYTES",
        ALL,
        1 << 40,
        "bytes of the prompts of one tenant that have not ended, with the turns before them",
    ),
    limit(
        "HOLDLINE_TENANT_REQUESTS_PER_MINUTE", ALL, 1_000_000, "prompts of one tenant in a minute"
    ),
    limit(
        "HOLDLINE_TENANT_TOKENS_PER_DAY", ALL, 1_000_000_000_000, "tokens of one tenant in a day"
    ),
    limit(
        "HOLDLINE_TENANT_MONEY_PER_DAY",
        ALL,
        1_000_000_000,
        "cost of one tenant's responses in a day, by the [price](#several-models) of their models",
    ),
    limit(
        "HOLDLINE_SUBJECT_RUNNING",
        ALL,
        1_000_000,
        "responses of one [end user](#limits-of-end-users) that wait or run at once",
    ),
    limit(
        "HOLDLINE_SUBJECT_REQUESTS_PER_MINUTE",
        ALL,
        1_000_000,
        "prompts of one end user in a minute",
    ),
    limit(
        "HOLDLINE_SUBJECT_TOKENS_PER_DAY", ALL, 1_000_000_000_000, "tokens of one end user in a day"
    ),
    limit(
        "HOLDLINE_SUBJECT_MONEY_PER_DAY",
        ALL,
        1_000_000_000,
        "cost of one end user's responses in a day",
    ),
    limit(
        "HOLDLINE_MAX_INPUT_TOKENS",
        ALL,
        1_000_000_000,
        "estimated tokens in the input of one prompt",
    ),
    number(
        "HOLDLINE_RETENTION_SECONDS",
        ALL,
        3600,
        0.1,
        30 * DAY,
        "how long a response is kept after its end",
    ),
    text(
        "HOLDLINE_ENCRYPTION_KEYS",
        ALL,
        "",
        "the file with the keys that [encrypt](#encryption) prompts and answers in Redis",
    ),
    choice(
        "HOLDLINE_ON_WORKER_DEATH",
        ALL,
        ("restart", "fail"),
        "`restart` or `fail` the responses of a worker that died",
    ),
    number(
        "HOLDLINE_PARTITIONS",
        ALL,
        1,
        1,
        MAX_PARTITIONS,
        "partitions of the keys in Redis; leave it at 1",
    ),
    text("HOLDLINE_WEBHOOK_URL", ALL, "", "the receiver of [webhooks](webhooks.md): `https://`"),
    text(
        "HOLDLINE_WEBHOOK_SECRET",
        WORKER,
        "",
        "the secret that signs webhooks: `whsec_` and base64 of 24 to 64 bytes; several, "
        "separated by spaces, while one is replaced",
    ),
    number(
        "HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS",
        ALL,
        0,
        0,
        DAY,
        "above 0: a webhook is sent only if no client has acknowledged the end in this time",
    ),
    choice(
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE",
        WORKER,
        ("0", "1"),
        "`1`: webhooks may also go to private addresses, and by `http://`",
    ),
    text(
        "HOLDLINE_URL",
        CLIENT,
        "http://127.0.0.1:8080",
        "the server of [the command](client.md#the-command)",
    ),
    text("HOLDLINE_TOKEN", CLIENT, "", "the token that the command sends to the server"),
)
SETTINGS: Final = {setting.name: setting for setting in _TABLE}
