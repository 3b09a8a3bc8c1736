"""The table of all settings, from which `settings.py` builds the parser, help and documentation.

A new setting needs an entry here, and a field in the Config of the program that reads it.
"""

from __future__ import annotations

from typing import Final

from jobs.ids import MAX_PARTITIONS
from runtime.supervisor import MAX_PROCESSES

from .models import DAY, MAX_CONCURRENCY
from .setting import (
    ADMIN,
    ALL,
    CLIENT,
    EACH,
    SERVER,
    SERVER_AND_ADMIN,
    UP,
    WORKER,
    choice,
    limit,
    number,
    text,
)

_TABLE: Final = (
    text(
        "REDIS_URL", ALL, "redis://127.0.0.1:6379/0", "the [URL](#redis-urls) of the Redis database"
    ),
    text(
        "OPENAI_BASE_URL",
        WORKER,
        "",
        "the base URL of the model's endpoint, which must support streamed chat completions",
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
        "the address to listen on; without API keys or tokens, the server only accepts a "
        "loopback address",
    ),
    number(
        "HOLDLINE_PORT",
        SERVER,
        8080,
        0,
        65_535,
        "the port to listen on; with 0, the system chooses a free port, and the server logs it",
    ),
    text(
        "HOLDLINE_WORKER_HOST",
        WORKER,
        "127.0.0.1",
        "the address on which a worker serves its [health and metrics](watch.md#health); anyone "
        "who can reach it can read them",
    ),
    number(
        "HOLDLINE_WORKER_PORT",
        WORKER,
        0,
        0,
        65_535,
        "the port on which a worker serves its [health and metrics](watch.md#health); with 0, "
        "the worker has no port",
    ),
    text(
        "HOLDLINE_MODEL",
        ALL,
        "",
        "the model for requests that name no model; without this setting, each request must name a "
        "model",
    ),
    text(
        "HOLDLINE_MODELS",
        ALL,
        "",
        "the path of the TOML file that defines [models](models.md#the-models-file) and prompt "
        "templates",
    ),
    number(
        "HOLDLINE_PING_SECONDS",
        SERVER,
        25,
        0.05,
        300,
        "the interval of pings on a WebSocket and of heartbeats on an event stream",
    ),
    number(
        "HOLDLINE_MAX_BODY_BYTES",
        SERVER,
        1_048_576,
        1024,
        67_108_864,
        "the maximum size of an HTTP request body or a WebSocket message",
    ),
    number(
        "HOLDLINE_MAX_CONTEXT_BYTES",
        SERVER,
        4_194_304,
        1024,
        67_108_864,
        "the maximum size of an [expanded prompt](limits.md#the-size-of-a-prompt), which "
        "includes its earlier turns, referenced items and template",
    ),
    number(
        "HOLDLINE_MAX_SOCKETS",
        SERVER,
        0,
        0,
        1_000_000,
        "the maximum number of open WebSockets and HTTP event streams of one server process; 0 "
        "means no limit. The server refuses further ones with 429 `socket_limit_exceeded`",
    ),
    number(
        "HOLDLINE_REQUEST_SECONDS",
        SERVER,
        30,
        0.1,
        3600,
        "the time limit for the head of the first request on a connection, for the body of "
        "each request, and for the run on a [WebSocket for AG-UI]"
        "(frontends.md#ag-ui-over-a-websocket)",
    ),
    number(
        "HOLDLINE_UNSTORED_SECONDS",
        SERVER,
        60,
        0,
        DAY,
        "how long Holdline keeps an [unstored response](protocol.md#unstored-responses) after "
        "delivering it",
    ),
    text(
        "HOLDLINE_ALLOWED_ORIGINS",
        SERVER,
        "",
        "[origins of other sites](secure.md#allowed-sites-and-apps) whose pages may use the "
        "server, separated by commas, such as `https://shop.example`",
    ),
    text(
        "HOLDLINE_ALLOWED_HOSTS",
        SERVER,
        "",
        "[host names](secure.md#allowed-sites-and-apps) that the `Host` header may contain in "
        "addition to loopback names, separated by commas, such as `chat.example`",
        shown="any host, if keys or tokens are set",
    ),
    text(
        "HOLDLINE_TRUSTED_PROXIES",
        SERVER,
        "",
        "addresses and networks of the proxies whose `X-Forwarded-For` header is trusted to "
        "contain the [client's address](tenants.md#limits-of-end-users), separated by commas, "
        "such as `127.0.0.1,10.0.0.0/8`",
    ),
    text(
        "HOLDLINE_API_KEYS",
        SERVER,
        "",
        "where the [API keys](secure.md#api-keys-and-tokens) are stored: `redis`, or the path "
        "of a file",
    ),
    text(
        "HOLDLINE_JWT_KEYS",
        SERVER,
        "",
        "the path of the JSON Web Key Set file whose keys verify "
        "[tokens](secure.md#api-keys-and-tokens)",
    ),
    text(
        "HOLDLINE_JWKS_URL",
        SERVER,
        "",
        "the URL of an identity provider's JSON Web Key Set; it must use `https`, or `http` on "
        "a loopback address",
    ),
    text(
        "HOLDLINE_JWT_ISSUER",
        SERVER,
        "",
        "the required value of a token's `iss` claim",
        shown="any",
    ),
    text(
        "HOLDLINE_JWT_AUDIENCE",
        SERVER,
        "",
        "the required value of a token's `aud` claim",
        shown="any",
    ),
    text(
        "HOLDLINE_JWT_TENANT_CLAIM", SERVER, "tenant", "the claim of a token that names its tenant"
    ),
    number(
        "HOLDLINE_JWT_MAX_SECONDS",
        SERVER,
        3600,
        60,
        DAY,
        "the maximum remaining lifetime of a token; the server rejects tokens that are valid "
        "for longer",
    ),
    number(
        "HOLDLINE_AUTH_SECONDS",
        SERVER,
        10,
        0.05,
        300,
        "the time limit for a new WebSocket to authenticate",
    ),
    number(
        "HOLDLINE_AUTH_GRACE_SECONDS",
        SERVER,
        10,
        0,
        300,
        "how long a WebSocket stays open after its token has expired",
    ),
    number(
        "HOLDLINE_WAIT_REPLICAS",
        SERVER,
        0,
        0,
        10,
        "the number of Redis replicas that must acknowledge a prompt or a steer before the server "
        "accepts it",
    ),
    number(
        "HOLDLINE_PROCESSES",
        EACH,
        1,
        1,
        MAX_PROCESSES,
        "the number of [processes](scale.md#several-servers-and-workers) that one server or "
        "worker command starts, usually one per core; the option `--processes` overrides it",
    ),
    choice(
        "HOLDLINE_LOG_FORMAT",
        EACH,
        ("auto", "text", "json"),
        "the [format of log lines](watch.md#log-format): `auto` writes text on a terminal and JSON "
        "elsewhere",
    ),
    choice(
        "HOLDLINE_LOG_LEVEL",
        EACH,
        ("info", "warning", "error"),
        "the lowest [level](watch.md#log-format) of the log lines that a process writes",
    ),
    choice(
        "HOLDLINE_REQUEST_LOG",
        SERVER,
        ("off", "on", "with_address"),
        "with `on`, the server [logs each request](watch.md#request-log) that is refused or is not "
        "only a read; `with_address` adds the client's address",
    ),
    choice(
        "HOLDLINE_SEND_TRACEPARENT",
        WORKER,
        ("0", "1"),
        "with `1`, workers send the header `traceparent` to the endpoints of models, so that an "
        "endpoint can [continue the trace](watch.md#traces); `send_traceparent` in a model's "
        "[table](models.md#the-models-file) overrides it",
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
        "the time limit for the first piece of text from the model",
    ),
    number(
        "HOLDLINE_STALL_TIMEOUT_SECONDS",
        WORKER,
        60,
        0.05,
        DAY,
        "the time limit between two pieces of text from the model",
    ),
    number(
        "HOLDLINE_MAX_OUTPUT_BYTES",
        ALL,
        4_000_000,
        1,
        100_000_000,
        "the maximum size of the text of one response; its tool calls, annotations, "
        "log probabilities and other items together have a separate limit of the same size",
    ),
    number(
        "HOLDLINE_SHUTDOWN_GRACE_SECONDS",
        ALL,
        20,
        0,
        3600,
        "the time that a worker has to finish its responses when it shuts down, and that a server "
        "has to answer waiting requests without a stream",
    ),
    number(
        "HOLDLINE_SHUTDOWN_DELAY_SECONDS",
        SERVER,
        0,
        0,
        60,
        "how long a server still accepts requests after it was told to stop, so that load "
        "balancers can notice the shutdown; meanwhile `/readyz` answers 503, and the server closes "
        "each connection after its response",
    ),
    number(
        "HOLDLINE_REDIS_RETRY_SECONDS",
        WORKER,
        120,
        0,
        3600,
        "how long a worker keeps a job's output while [Redis is "
        "unavailable](recover.md#when-redis-is-unavailable) before it abandons the job",
    ),
    number(
        "HOLDLINE_MAX_UNSENT_BYTES",
        WORKER,
        1_000_000,
        1,
        100_000_000,
        "the maximum size of one response's output that a worker buffers for Redis; when the "
        "buffer is full, the worker stops reading from the model",
    ),
    number(
        "HOLDLINE_MAX_HELD_BYTES",
        WORKER,
        50_331_648,
        1,
        10_000_000_000,
        "the maximum memory of one worker process for decoded prompts, estimated as their size "
        "plus 100 bytes for each value in them; above this limit, the worker claims no further "
        "jobs",
    ),
    number(
        "HOLDLINE_MODEL_TIMEOUT_SECONDS",
        ALL,
        900,
        0.1,
        DAY,
        "the time limit of one model call, including the calls to the model's fallbacks",
    ),
    number(
        "HOLDLINE_LEASE_SECONDS",
        ALL,
        15,
        0.1,
        600,
        "the duration of a [lease](glossary.md#lease); if a worker does not renew a lease within "
        "this time, another worker takes over the response",
    ),
    number(
        "HOLDLINE_MAX_ATTEMPTS",
        ALL,
        3,
        1,
        100,
        "the number of failed attempts after which a response fails",
    ),
    number(
        "HOLDLINE_MAX_WAIT_SECONDS",
        ALL,
        3600,
        0.1,
        7 * DAY,
        "the time that a prompt may wait in the queue before its response fails",
    ),
    number(
        "HOLDLINE_MAX_WAITING",
        ALL,
        10_000,
        1,
        1_000_000,
        "the maximum number of prompts in the queue of a [partition](glossary.md#partition)",
    ),
    number(
        "HOLDLINE_MAX_WAITING_BYTES",
        ALL,
        1 << 30,
        1 << 20,
        1 << 40,
        "the maximum total size of the unfinished prompts in a "
        "[partition](glossary.md#partition), including their earlier turns",
    ),
    choice(
        "HOLDLINE_ON_ORPHAN",
        ALL,
        ("go_on", "cancel"),
        "the policy for a response that [no client follows](#orphans): `go_on` lets it "
        "continue, `cancel` cancels it",
    ),
    number(
        "HOLDLINE_ORPHAN_SECONDS",
        ALL,
        60,
        0.1,
        DAY,
        "how long a response may have no follower before the policy `cancel` cancels it",
    ),
    limit(
        "HOLDLINE_TENANT_SOCKETS",
        SERVER,
        1_000_000,
        "the maximum number of WebSockets of one [tenant](tenants.md#limits-of-tenants) on one "
        "server process",
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
        "the maximum number of one tenant's prompts that wait in the queue",
    ),
    limit(
        "HOLDLINE_TENANT_WAITING_BYTES",
        ALL,
        1 << 40,
        "the maximum total size of one tenant's unfinished prompts, including their earlier turns",
    ),
    limit(
        "HOLDLINE_TENANT_REQUESTS_PER_MINUTE",
        ALL,
        1_000_000,
        "the maximum number of prompts that one tenant may send per minute",
    ),
    limit(
        "HOLDLINE_TENANT_TOKENS_PER_DAY",
        ALL,
        1_000_000_000_000,
        "the maximum number of tokens that one tenant may use per day",
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
        "the maximum number of prompts that one end user may send per minute",
    ),
    limit(
        "HOLDLINE_SUBJECT_TOKENS_PER_DAY",
        ALL,
        1_000_000_000_000,
        "the maximum number of tokens that one end user may use per day",
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
        "how long Holdline keeps a response after the response has ended",
    ),
    number(
        "HOLDLINE_CONVERSATION_RETENTION_SECONDS",
        ALL,
        30 * DAY,
        1,
        400 * DAY,
        "how long Holdline keeps a [conversation](protocol.md#conversations) after its last use",
    ),
    number(
        "HOLDLINE_MAX_CONVERSATION_BYTES",
        ALL,
        4_194_304,
        1024,
        67_108_864,
        "the maximum size of one conversation: its items and its metadata, and 100 bytes more for "
        "each item",
    ),
    number(
        "HOLDLINE_MAX_CONVERSATION_ITEMS",
        ALL,
        10_000,
        1,
        100_000,
        "the maximum number of entries of one conversation: its items, and its deletions of items",
    ),
    number(
        "HOLDLINE_SUBJECT_CONVERSATION_BYTES",
        ALL,
        268_435_456,
        0,
        1 << 40,
        "the maximum size of all conversations of one [end "
        "user](tenants.md#limits-of-end-users); 0 means no limit",
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
        ("continue", "restart", "fail"),
        "the [policy](recover.md#when-a-worker-dies) for the unfinished responses of a dead "
        "worker: `continue` continues each answer whose model supports it and restarts the other "
        "responses, `restart` restarts all of them, `fail` ends them with an error",
    ),
    number(
        "HOLDLINE_PARTITIONS",
        ALL,
        1,
        1,
        MAX_PARTITIONS,
        "the number of [partitions](glossary.md#partition) of the keys in Redis; use 1 unless "
        "Redis is a [cluster](scale.md#redis-sentinel-and-redis-cluster)",
    ),
    number(
        "HOLDLINE_FIRST_PARTITION",
        ALL,
        0,
        0,
        MAX_PARTITIONS - 1,
        "the number of the first partition, which tells [cells](scaling.md#cells) apart; do not "
        "change it while Redis has responses",
    ),
    text(
        "HOLDLINE_WEBHOOK_URL", ALL, "", "the `https://` URL that receives [webhooks](webhooks.md)"
    ),
    text(
        "HOLDLINE_WEBHOOK_SECRET",
        WORKER,
        "",
        "the secret that signs webhooks: `whsec_` and the base64 encoding of 24 to 64 bytes; to "
        "replace it, list the old and the new secret, separated by a space",
    ),
    number(
        "HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS",
        ALL,
        0,
        0,
        DAY,
        "if above 0, Holdline sends a webhook only if no client acknowledges the end of the "
        "response within this time",
    ),
    choice(
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE",
        WORKER,
        ("0", "1"),
        "with `1`, workers may also send webhooks to private addresses and over `http://`",
    ),
    text(
        "HOLDLINE_VAPID_KEYS",
        ALL,
        "",
        "the path of the file with the keys that sign [pushes](push.md) to browsers; "
        "`holdline vapid create` creates it",
    ),
    text(
        "HOLDLINE_VAPID_CONTACT",
        WORKER,
        "",
        "the address at which a push service can reach you, such as `mailto:ops@app.example`; "
        "required with `HOLDLINE_VAPID_KEYS`",
    ),
    choice(
        "HOLDLINE_PUSH_DEVICES",
        ALL,
        ("0", "1"),
        "with `1`, apps may register device tokens, and workers send the pushes for them to "
        "`HOLDLINE_WEBHOOK_URL`",
    ),
    number(
        "HOLDLINE_PUSH_WAIT_SECONDS",
        ALL,
        10,
        1,
        DAY,
        "Holdline sends a push only if no client acknowledges the end of the response within this "
        "time",
    ),
    number(
        "HOLDLINE_PUSH_PREVIEW_CHARACTERS",
        WORKER,
        0,
        0,
        500,
        "the number of characters of the answer in a push; 0 means that a push contains nothing of "
        "the answer",
    ),
    number(
        "HOLDLINE_PUSH_TTL_SECONDS",
        WORKER,
        DAY,
        60,
        28 * DAY,
        "how long after the end of the response a push service may still deliver a push",
    ),
    text(
        "HOLDLINE_PUSH_SERVICES",
        SERVER,
        "fcm.googleapis.com *.push.services.mozilla.com *.push.apple.com *.notify.windows.com",
        "the hosts of the push services that browsers may name, separated by spaces; `*.` allows "
        "all subdomains, and `*` allows all public hosts. A host is allowed at port 443 and at the "
        "port that its entry names, as in `push.example:8443`; `*` allows every port",
    ),
    choice(
        "HOLDLINE_PUSH_ALLOW_PRIVATE",
        EACH,
        ("0", "1"),
        "with `1`, push services may also have private addresses and `http://` URLs, for tests",
    ),
    choice(
        "HOLDLINE_AUDIT",
        ADMIN,
        ("redis", "stderr", "both"),
        "where the commands for operators record changes: in the "
        "[audit log](secure.md#the-audit-log) in Redis, as lines of JSON on standard error, or "
        "both",
    ),
    number(
        "HOLDLINE_AUDIT_RETENTION_SECONDS",
        SERVER_AND_ADMIN,
        90 * DAY,
        DAY,
        400 * DAY,
        "how long Redis keeps the entries of the audit log",
    ),
    text(
        "HOLDLINE_OPERATOR",
        ADMIN,
        "",
        "the name of the operator in the audit log, in addition to the name of the user and the "
        "host",
    ),
    text(
        "HOLDLINE_DATA_DIR",
        UP,
        "",
        "the data folder of the [embedded Redis](install-wheel.md#the-data-folder); "
        "the default in a checkout is `.data`",
        shown="`~/.local/share/holdline`",
    ),
    text(
        "HOLDLINE_URL",
        CLIENT,
        "http://127.0.0.1:8080",
        "the URL of the server that `holdline ask` and [`holdline-ask`](client.md#the-command) "
        "connect to",
    ),
    text(
        "HOLDLINE_TOKEN",
        CLIENT,
        "",
        "the API key or token that they send to the server; "
        "[an example program](protocol.md#a-websocket-client-in-python) reads it too",
    ),
)
SETTINGS: Final = {setting.name: setting for setting in _TABLE}
