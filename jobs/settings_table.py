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
    text("REDIS_URL", ALL, "redis://127.0.0.1:6379/0", "the [URL](#redis-urls) of Redis"),
    text(
        "OPENAI_BASE_URL",
        WORKER,
        "",
        "the base URL of the model's endpoint, which must stream chat completions",
        shown="OpenAI's",
    ),
    text(
        "OPENAI_API_KEY",
        WORKER,
        "",
        "the API key of the model's endpoint; required unless `OPENAI_BASE_URL` is set",
    ),
    text(
        "HOLDLINE_HOST",
        SERVER,
        "127.0.0.1",
        "the address to listen on; without API keys or tokens, only loopback addresses are allowed",
    ),
    number(
        "HOLDLINE_PORT",
        SERVER,
        8080,
        0,
        65_535,
        "the port to listen on; 0: any free port, which is logged",
    ),
    text(
        "HOLDLINE_MODEL",
        ALL,
        "",
        "the model for requests that name none; without it, such requests are refused",
    ),
    text(
        "HOLDLINE_MODELS",
        ALL,
        "",
        "the path of the file with [models](models.md#the-models-file) and prompt templates",
    ),
    number(
        "HOLDLINE_PING_SECONDS", SERVER, 25, 0.05, 300, "the interval between pings and heartbeats"
    ),
    number(
        "HOLDLINE_MAX_BODY_BYTES",
        SERVER,
        1_048_576,
        1024,
        67_108_864,
        "the maximum size of a request body or message",
    ),
    number(
        "HOLDLINE_MAX_CONTEXT_BYTES",
        SERVER,
        4_194_304,
        1024,
        67_108_864,
        "the maximum size of a prompt after its "
        "[expansion](limits.md#the-size-of-a-prompt): its input, earlier turns, "
        "referenced items and template",
    ),
    number(
        "HOLDLINE_MAX_SOCKETS",
        SERVER,
        0,
        0,
        1_000_000,
        "the maximum number of sockets of one server process; further sockets get 429 "
        "`websocket_connection_limit_reached`; 0: no limit",
    ),
    number(
        "HOLDLINE_REQUEST_SECONDS",
        SERVER,
        30,
        0.1,
        3600,
        "the time limit for a client to send the head of its first request, and the body of"
        " each request",
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
        "[other sites](secure.md#allowed-sites-and-apps) whose pages may use the server, separated "
        "by commas, such as `https://shop.example`",
    ),
    text(
        "HOLDLINE_ALLOWED_HOSTS",
        SERVER,
        "",
        "[host names](secure.md#allowed-sites-and-apps) that `Host` may contain besides loopback "
        "names, separated by commas, such as `chat.example`",
        shown="any, with keys or tokens",
    ),
    text(
        "HOLDLINE_TRUSTED_PROXIES",
        SERVER,
        "",
        "addresses and networks of the proxies whose `X-Forwarded-For` determines the "
        "[address of a client](tenants.md#limits-of-end-users), separated by commas, such as "
        "`127.0.0.1,10.0.0.0/8`",
    ),
    text(
        "HOLDLINE_API_KEYS",
        SERVER,
        "",
        "the location of the [API keys](secure.md#api-keys-and-tokens): `redis`, or the "
        "path of a file",
    ),
    text(
        "HOLDLINE_JWT_KEYS",
        SERVER,
        "",
        "the path of the JSON Web Key Set that verifies [tokens](secure.md#api-keys-and-tokens)",
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
        "the maximum remaining lifetime of a token",
    ),
    number(
        "HOLDLINE_AUTH_SECONDS",
        SERVER,
        10,
        0.05,
        300,
        "the time limit for a socket to authenticate",
    ),
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
        "the number of replicas that must acknowledge a prompt before it is accepted",
    ),
    number(
        "HOLDLINE_PROCESSES",
        EACH,
        1,
        1,
        MAX_PROCESSES,
        "the number of [processes](scale.md#several-servers-and-workers) of one server or worker, "
        "usually one per core; `--processes` overrides it",
    ),
    number(
        "HOLDLINE_CONCURRENCY",
        WORKER,
        100,
        1,
        MAX_CONCURRENCY,
        "the maximum number of responses that one worker process generates at once",
    ),
    number(
        "HOLDLINE_FIRST_TOKEN_SECONDS",
        WORKER,
        120,
        0.05,
        DAY,
        "the time limit for the model's first piece of text",
    ),
    number(
        "HOLDLINE_STALL_TIMEOUT_SECONDS",
        WORKER,
        60,
        0.05,
        DAY,
        "the time limit between two pieces of text",
    ),
    number(
        "HOLDLINE_MAX_OUTPUT_BYTES",
        ALL,
        4_000_000,
        1,
        100_000_000,
        "the maximum size of the text of one response; its other output (calls, annotations, "
        "log probabilities, passed items) has a separate limit of the same size",
    ),
    number(
        "HOLDLINE_SHUTDOWN_GRACE_SECONDS",
        ALL,
        20,
        0,
        3600,
        "the time for a stopping worker to finish its responses, and for a stopping server "
        "to answer requests that wait without a stream",
    ),
    number(
        "HOLDLINE_SHUTDOWN_DELAY_SECONDS",
        SERVER,
        0,
        0,
        60,
        "the time for which a stopping server still accepts requests, while `/readyz` answers 503 "
        "and each response closes its connection, so that load balancers stop using it",
    ),
    number(
        "HOLDLINE_REDIS_RETRY_SECONDS",
        WORKER,
        120,
        0,
        3600,
        "how long a worker keeps output that [Redis does not "
        "accept](recover.md#when-redis-is-unavailable) before it abandons the job",
    ),
    number(
        "HOLDLINE_MAX_UNSENT_BYTES",
        WORKER,
        1_000_000,
        1,
        100_000_000,
        "the maximum output of one response that waits in a worker for Redis; beyond it, "
        "the worker stops reading from the model",
    ),
    number(
        "HOLDLINE_MAX_HELD_BYTES",
        WORKER,
        67_108_864,
        1,
        10_000_000_000,
        "the maximum memory for the decoded prompts of a worker process: their bytes, and "
        "100 for each value in them; beyond it, the worker claims no further job",
    ),
    number(
        "HOLDLINE_MODEL_TIMEOUT_SECONDS", ALL, 900, 0.1, DAY, "the time limit of one model call"
    ),
    number(
        "HOLDLINE_LEASE_SECONDS",
        ALL,
        15,
        0.1,
        600,
        "how long a response stays with a worker that does not renew its lease",
    ),
    number(
        "HOLDLINE_MAX_ATTEMPTS",
        ALL,
        3,
        1,
        100,
        "the maximum number of failed attempts of one response",
    ),
    number(
        "HOLDLINE_MAX_WAIT_SECONDS",
        ALL,
        3600,
        0.1,
        7 * DAY,
        "the maximum time of a prompt in the queue",
    ),
    number(
        "HOLDLINE_MAX_WAITING",
        ALL,
        10_000,
        1,
        1_000_000,
        "the maximum number of prompts in the queue of a partition",
    ),
    number(
        "HOLDLINE_MAX_WAITING_BYTES",
        ALL,
        1 << 30,
        1 << 20,
        1 << 40,
        "the maximum size of the unfinished prompts of a partition, including their earlier turns",
    ),
    choice(
        "HOLDLINE_ON_ORPHAN",
        ALL,
        ("go_on", "cancel"),
        "the policy for a response that [no client follows](#orphans): `go_on` or `cancel`",
    ),
    number(
        "HOLDLINE_ORPHAN_SECONDS",
        ALL,
        60,
        0.1,
        DAY,
        "the time without a follower after which a response is cancelled",
    ),
    limit(
        "HOLDLINE_TENANT_SOCKETS",
        SERVER,
        1_000_000,
        "the maximum number of sockets of one [tenant](tenants.md#limits-of-tenants) on one server "
        "process",
    ),
    limit(
        "HOLDLINE_TENANT_RUNNING",
        ALL,
        1_000_000,
        "the maximum number of running responses of one [tenant](tenants.md#limits-of-tenants)",
    ),
    limit(
        "HOLDLINE_TENANT_WAITING",
        ALL,
        1_000_000,
        "the maximum number of prompts of one tenant in the queue",
    ),
    limit(
        "HOLDLINE_TENANT_WAITING_BYTES",
        ALL,
        1 << 40,
        "the maximum size of the unfinished prompts of one tenant, including their earlier turns",
    ),
    limit(
        "HOLDLINE_TENANT_REQUESTS_PER_MINUTE",
        ALL,
        1_000_000,
        "the maximum number of prompts of one tenant per minute",
    ),
    limit(
        "HOLDLINE_TENANT_TOKENS_PER_DAY",
        ALL,
        1_000_000_000_000,
        "the maximum number of tokens of one tenant per day",
    ),
    limit(
        "HOLDLINE_TENANT_MONEY_PER_DAY",
        ALL,
        1_000_000_000,
        "the maximum cost of one tenant's responses per day, by the "
        "[price](models.md#the-models-file) of their models",
    ),
    limit(
        "HOLDLINE_SUBJECT_RUNNING",
        ALL,
        1_000_000,
        "the maximum number of waiting and running responses of one [end "
        "user](tenants.md#limits-of-end-users)",
    ),
    limit(
        "HOLDLINE_SUBJECT_REQUESTS_PER_MINUTE",
        ALL,
        1_000_000,
        "the maximum number of prompts of one end user per minute",
    ),
    limit(
        "HOLDLINE_SUBJECT_TOKENS_PER_DAY",
        ALL,
        1_000_000_000_000,
        "the maximum number of tokens of one end user per day",
    ),
    limit(
        "HOLDLINE_SUBJECT_MONEY_PER_DAY",
        ALL,
        1_000_000_000,
        "the maximum cost of one end user's responses per day",
    ),
    limit(
        "HOLDLINE_MAX_INPUT_TOKENS",
        ALL,
        1_000_000_000,
        "the maximum number of estimated tokens in the input of one prompt",
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
        "the path of the file with the keys that [encrypt](secure.md#encryption) prompts and "
        "answers in Redis",
    ),
    choice(
        "HOLDLINE_ON_WORKER_DEATH",
        ALL,
        ("restart", "fail"),
        "the policy for the responses of a worker that died: `restart` or `fail`",
    ),
    number(
        "HOLDLINE_PARTITIONS",
        ALL,
        1,
        1,
        MAX_PARTITIONS,
        "the number of partitions of the keys in Redis; leave it at 1",
    ),
    text(
        "HOLDLINE_WEBHOOK_URL", ALL, "", "the `https://` URL that receives [webhooks](webhooks.md)"
    ),
    text(
        "HOLDLINE_WEBHOOK_SECRET",
        WORKER,
        "",
        "the secret that signs webhooks: `whsec_` and the base64 encoding of 24 to 64 "
        "bytes; several secrets, separated by spaces, while one is replaced",
    ),
    number(
        "HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS",
        ALL,
        0,
        0,
        DAY,
        "above 0: a webhook is sent only if no client acknowledges the end of the response "
        "within this time",
    ),
    choice(
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE",
        WORKER,
        ("0", "1"),
        "`1`: webhooks may also be sent to private addresses, and over `http://`",
    ),
    text(
        "HOLDLINE_URL",
        CLIENT,
        "http://127.0.0.1:8080",
        "the server that [the command](client.md#the-command) connects to",
    ),
    text("HOLDLINE_TOKEN", CLIENT, "", "the token that the command sends to the server"),
)
SETTINGS: Final = {setting.name: setting for setting in _TABLE}
