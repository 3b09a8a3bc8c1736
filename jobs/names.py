"""Defines the names of all Redis keys, channels and queues.

A response belongs to one partition. All keys of a partition share the hash tag `{p}`, where `p` is
its number, so each script touches only one slot of a Redis Cluster. The partition is part of the
response's id, so the id is enough to find the response's keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from .errors import UnknownConversation, UnknownResponse
from .ids import RESPONSE_ID, digest, is_conversation

# Maps each service tier of the Responses API, highest first, to its letter in queue names.
_TIERS = {"priority": "p", "default": "d", "auto": "d", "flex": "f"}


def partition_of(response_id: str) -> int:
    """Returns the number of the partition to which a response id belongs.

    Raises: UnknownResponse for any text that `new_response_id` cannot have created. This check
        keeps other text from clients out of Redis keys.
    """
    return names_of(response_id).number


def queue_name_of(tier: str | None, model: str) -> str:
    """Returns the name of the queue for jobs of a service tier and a model.

    `model` is "" for a model that the models file does not list. Such models share one queue,
    because clients could otherwise create a Redis key for any model name. The queue of the default
    tier without a model has the name "". From format 2 on, the name begins with the format of the
    jobs and "/" (see `jobs.format`).
    """
    letter = _TIERS.get(tier or "default", "d")
    return f"{letter}:{model}" if model or letter != "d" else ""


def model_of(queue_name: str) -> str:
    """Returns the model of a queue, or "" if the queue has jobs of different models."""
    return queue_name[2:]


def tier_of(queue_name: str) -> str:
    """Returns the service tier of a queue: `priority`, `default` or `flex`."""
    return next((tier for tier, letter in _TIERS.items() if letter == queue_name[:1]), "default")


def tenant_of(owner: str) -> str:
    """Returns the tenant of an owner, whose limits, budget and share of the queue apply.

    The Lua function `tenant_of` in `_fair_queue.lua` must return the same.
    """
    return owner.partition("/")[0]


def is_end_user(owner: str) -> bool:
    """Returns True if an owner is an end user, and not a service or everyone."""
    return owner.partition("/")[2] != ""


@dataclass(frozen=True, slots=True)
class Partition:
    """The names of all Redis keys and channels of one partition."""

    number: int
    prefix: str = field(init=False)
    """The prefix of all keys of the partition. Scripts use it to build the names of other keys."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"holdline:{{{self.number}}}:")

    def job(self, response_id: str) -> str:
        """Returns the key of the hash with the request and the authoritative state of a job."""
        return f"{self.prefix}job:{response_id}"

    def log(self, response_id: str) -> str:
        """Returns the key of the list with the events of a response.

        The index of an event in the list is its `sequence_number`.
        """
        return f"{self.prefix}log:{response_id}"

    def steers(self, response_id: str) -> str:
        """Returns the key of the hash with the steers of a response, by their number.

        `SteerLog` reads and writes this hash.
        """
        return f"{self.prefix}steers:{response_id}"

    def turn(self, response_id: str) -> str:
        """Returns the key of the hash with the items of a response, for jobs that continue from it.

        `TurnStore` reads and writes this hash.
        """
        return f"{self.prefix}turn:{response_id}"

    def notifications(self, id_: str) -> str:
        """Returns the channel that announces each append to a log, and other changes of a response.

        The message of an append is the index of the first appended entry, and the entries. For the
        feed of a conversation or of an account, the message is the number of the last event, or
        `gone` if the conversation was deleted.
        """
        return f"{self.prefix}notifications:{id_}"

    def conversation(self, conversation_id: str) -> str:
        """Returns the key of the hash with the owner and the metadata of a conversation.

        `_conversations.lua` describes the other keys of a conversation.
        """
        return f"{self.prefix}conversation:{conversation_id}"

    def items(self, conversation_id: str) -> str:
        """Returns the key of the list with the log of a conversation, whose entries are items."""
        return f"{self.prefix}items:{conversation_id}"

    def positions(self, conversation_id: str) -> str:
        """Returns the key of the hash with the index of each item in the log of a conversation."""
        return f"{self.prefix}positions:{conversation_id}"

    def pending(self, conversation_id: str) -> str:
        """Returns the key of the hash with the unfinished responses of a conversation."""
        return f"{self.prefix}pending:{conversation_id}"

    def removed(self, conversation_id: str) -> str:
        """Returns the key of the hash with deleted items that unfinished responses may need."""
        return f"{self.prefix}removed:{conversation_id}"

    def conversations(self, account: str) -> str:
        """Returns the key of the sorted set of an account's conversations, by their expiry."""
        return f"{self.prefix}conversations:{account}"

    def conversation_list(self, account: str) -> str:
        """Returns the key of the sorted set of an end user's conversations, by their last change.

        The scores are in milliseconds of Redis time.
        """
        return f"{self.prefix}conversation_list:{account}"

    def feed(self, id_: str) -> str:
        """Returns the key of the stream with the events of a conversation.

        For an account, the stream has the events of all of its conversations. `FeedStore` reads it.
        """
        return f"{self.prefix}feed:{id_}"

    def conversation_bytes(self, account: str) -> str:
        """Returns the key of the hash with the sizes of an account's conversations."""
        return f"{self.prefix}conversation_bytes:{account}"

    @property
    def unsettled(self) -> str:
        """The key of the sorted set of conversations with pending responses.

        The scores are the times at which a worker checks whether items are still missing.
        """
        return f"{self.prefix}unsettled"

    def idempotency(self, owner: str, idempotency_key: str) -> str:
        """Returns the key of the string with the response id for an owner's idempotency key."""
        return f"{self.prefix}key:{digest(owner, idempotency_key).hex()}"

    def replies(self, owner: str, request: str) -> str:
        """Returns the key of the hash of responses for which POSTs with the same body are waiting.

        All these POSTs come from the same owner. The script `reply.lua` writes the hash.
        """
        return f"{self.prefix}replies:{digest(owner, request).hex()}"

    def chat(self, owner: str, chat_id: str) -> str:
        """Returns the key of the string with the last response of a chat. `Chats` writes it."""
        return f"{self.prefix}chat:{digest(owner, chat_id).hex()}"

    @property
    def ready(self) -> str:
        """The key of the sorted set of tenants with waiting jobs, for the queue named "".

        Its scores are the finish tags, and the tenant with the lowest tag is served next. The key
        of any other queue ends with `|` and the queue's name.
        """
        return f"{self.prefix}ready"

    @property
    def idle(self) -> str:
        """The key of the sorted set of idle tenants, for the queue named "".

        Its scores are the finish tags. The key of any other queue ends with `|` and the queue's
        name.
        """
        return f"{self.prefix}idle"

    @property
    def since(self) -> str:
        """The key of the sorted set of the jobs that wait in the queue named "".

        The scores are the times of their submission, in milliseconds of Redis time. The key of any
        other queue ends with `|` and the queue's name.
        """
        return f"{self.prefix}since"

    @property
    def queue_names(self) -> str:
        """The key of the set with the names of all queues that have had waiting jobs."""
        return f"{self.prefix}queue_names"

    @property
    def waiting_prefix(self) -> str:
        """The common prefix of the tenants' lists of waiting ids, for the queue named "".

        The list of a tenant in any other queue has the key `waiting|<queue>|<tenant>`.
        """
        return f"{self.prefix}waiting:"

    def tenant(self, tenant: str) -> str:
        """Returns the key of the hash with a tenant's settings, which are its weight and limits."""
        return f"{self.prefix}tenant:{tenant}"

    def running(self, tenant: str) -> str:
        """Returns the key of the sorted set of a tenant's running responses.

        The scores are the ends of their leases, in milliseconds of Redis time.
        """
        return f"{self.prefix}running:{tenant}"

    def held(self, tenant: str) -> str:
        """Returns the key of the hash with the queues in which a tenant has to wait.

        A tenant that has reached its limit of running responses waits until one of them ends.
        """
        return f"{self.prefix}held:{tenant}"

    @property
    def followed(self) -> str:
        """The key of the sorted set of responses to cancel if no client follows them.

        The scores are the times of the cancellation. While a client follows a response, servers
        move its time forward.
        """
        return f"{self.prefix}followed"

    def open_of(self, account: str) -> str:
        """Returns the key of the sorted set of an account's unfinished responses.

        An account is a tenant or one of its end users. The scores are the times at which the
        responses will have ended at the latest.
        """
        return f"{self.prefix}open:{account}"

    def pause(self, model: str) -> str:
        """Returns the key of the hash with the pause of a model.

        The hash contains the end of the pause, in milliseconds of Redis time, and the number of
        jobs that have begun since that time.
        """
        return f"{self.prefix}pause:{model}"

    def pace(self, model: str) -> str:
        """Returns the key of the hash with the token buckets for the limits of a model's provider.

        They contain the requests and the tokens that the provider still allows.
        """
        return f"{self.prefix}pace:{model}"

    def rate(self, account: str) -> str:
        """Returns the key of the hash with the token bucket for an account's rate of requests.

        The hash contains the remaining requests and the time of the last update.
        """
        return f"{self.prefix}rate:{account}"

    def used(self, account: str, day: int) -> str:
        """Returns the key of the hash with the tokens and the money that an account used on a day.

        The money is in millionths. `day` is the number of days since 1970, in UTC.
        """
        return f"{self.prefix}used:{day}:{account}"

    @property
    def tenants(self) -> str:
        """The key of the sorted set of tenants, by the numbers of their unfinished responses."""
        return f"{self.prefix}tenants"

    def usage(self, day: int) -> str:
        """Returns the key of the sorted set of tenants, by the tokens that they used on a day."""
        return f"{self.prefix}usage:{day}"

    @property
    def queues(self) -> str:
        """The key of the list of queues with waiting jobs, in the order of their service."""
        return f"{self.prefix}queues"

    @property
    def idle_workers(self) -> str:
        """The key of the sorted set of workers to wake when a job arrives.

        The scores are the times of the workers' last claims.
        """
        return f"{self.prefix}idle_workers"

    def wake(self, worker: str) -> str:
        """Returns the channel that wakes one worker when a job arrives in this partition.

        Idle workers also look for jobs once a second, so a lost message delays a job by a second.
        """
        return f"{self.prefix}wake:{worker}"

    @property
    def leases(self) -> str:
        """The key of the sorted set of all running responses.

        The scores are the ends of their leases, in milliseconds of Redis time.
        """
        return f"{self.prefix}leases"

    @property
    def rescued(self) -> str:
        """The key of the string with the time of the last rescue, which the script `rescue` keeps.

        A second time follows, before which no rescue recovers jobs; it is 0 if they may at once.
        """
        return f"{self.prefix}rescued"

    @property
    def delayed(self) -> str:
        """The key of the sorted set of responses that wait for a retry.

        The scores are the times at which the retries are due, in milliseconds of Redis time.
        """
        return f"{self.prefix}delayed"

    @property
    def sizes(self) -> str:
        """The key of the hash with the size of each unfinished prompt in bytes.

        It also contains the sum for each tenant and the sum of all prompts.
        """
        return f"{self.prefix}sizes"

    @property
    def open(self) -> str:
        """The key of the sorted set of all unfinished responses.

        The scores are the times at which a rescue checks next whether Redis has lost the response.
        """
        return f"{self.prefix}open"

    @property
    def dead(self) -> str:
        """The key of the dead list, which contains the entries that no worker processes again.

        The list is bounded. An operator submits its entries again or removes them.
        """
        return f"{self.prefix}dead"

    @property
    def numbers(self) -> str:
        """The key of the hash with the last job number of each waiting list, and with statistics.

        Queue positions are computed from the job numbers.
        """
        return f"{self.prefix}numbers"

    @property
    def api_keys(self) -> str:
        """The key of the hash with the API keys of services, which exists only in partition 0.

        `RecordStore` reads and writes this hash.
        """
        return f"{self.prefix}api_keys"

    @property
    def audit(self) -> str:
        """The key of the stream with the audit log of operator commands; only in partition 0."""
        return f"{self.prefix}audit"

    @property
    def cipher(self) -> str:
        """The key of the string with the id of the encryption key of the last started process.

        The string exists only in partition 0, and only if encryption was ever configured.
        """
        return f"{self.prefix}cipher"

    @property
    def format(self) -> str:
        """The key of the string with the newest format of the data; only in partition 0.

        The string contains the number of the format, and the version of Holdline that introduced
        it here (see `jobs.format`).
        """
        return f"{self.prefix}format"

    @property
    def salt(self) -> str:
        """The key of the string with the salt for hashes of end users, only in partition 0."""
        return f"{self.prefix}salt"

    @property
    def cancels(self) -> str:
        """The channel that tells workers the ids of running responses that they must cancel."""
        return f"{self.prefix}cancels"

    @property
    def epoch(self) -> str:
        """The key of the string with the epoch, a random value that shows a loss of data.

        If the string is missing or has changed, Redis has lost its data.
        """
        return f"{self.prefix}epoch"

    def claimed(self, claim: str) -> str:
        """Returns the key of the string with the ids of all jobs that one claim assigned.

        If a worker repeats the claim because the reply was lost, it gets the same jobs.
        """
        return f"{self.prefix}claimed:{claim}"

    @property
    def hooks(self) -> str:
        """The key of the sorted set of responses with an unfinished webhook.

        The scores are the times at which the webhooks are due, in milliseconds of Redis time.
        """
        return f"{self.prefix}hooks"

    def hook(self, response_id: str) -> str:
        """Returns the key of the hash with one webhook.

        The hash contains the final status of the response and the number of delivery attempts.
        """
        return f"{self.prefix}hook:{response_id}"

    @property
    def pushes(self) -> str:
        """The key of the sorted set of unfinished pushes, which is like that of `hooks`."""
        return f"{self.prefix}pushes"

    def push(self, delivery_id: str) -> str:
        """Returns the key of the hash with one push, as `deliveries.Delivery` describes its id."""
        return f"{self.prefix}push:{delivery_id}"

    @property
    def feedbacks(self) -> str:
        """The key of the sorted set of unfinished webhooks of feedback, which is like `hooks`."""
        return f"{self.prefix}feedbacks"

    def feedback(self, response_id: str) -> str:
        """Returns the key of the hash with one webhook that reports the feedback on a response."""
        return f"{self.prefix}feedback:{response_id}"

    def subscription(self, subscription_id: str) -> str:
        """Returns the key of the string with one push subscription.

        `PushSubscriptions` reads and writes it.
        """
        return f"{self.prefix}subscription:{subscription_id}"

    def subscriptions(self, owner: str) -> str:
        """Returns the key of the sorted set of an owner's push subscriptions, by their expiry."""
        return f"{self.prefix}subscriptions:{owner}"

    @property
    def workers(self) -> str:
        """The key of the sorted set of live workers, which exists only in partition 0.

        The scores are the times at which the records of the workers expire, in milliseconds of
        Redis time.
        """
        return f"{self.prefix}workers"

    def worker(self, worker: str) -> str:
        """Returns the key of the string with the record of a live worker.

        It exists only in partition 0. `WorkerRegistry` reads and writes it.
        """
        return f"{self.prefix}worker:{worker}"

    @property
    def servers(self) -> str:
        """The key of the sorted set of live servers, which is like that of `workers`."""
        return f"{self.prefix}servers"

    def server(self, server: str) -> str:
        """Returns the key of the string with the record of a live server.

        It exists only in partition 0. `ServerRegistry` reads and writes it.
        """
        return f"{self.prefix}server:{server}"

    def probe(self, process: str) -> str:
        """Returns the channel of a process's probes, which are messages to itself.

        A connection that does not deliver these messages is broken.
        """
        return f"{self.prefix}probe:{process}"


def names_of(response_id: str) -> Partition:
    """Returns the names of the keys and channels in the partition of a response.

    Raises: UnknownResponse, as `partition_of`.
    """
    if RESPONSE_ID.fullmatch(response_id) is None:
        raise UnknownResponse(response_id)
    return _names(response_id[5:8])


def script_keys(response_id: str) -> dict[str, str]:
    """Returns the arguments that most scripts for a single response need."""
    names = names_of(response_id)
    return {
        "job_key": names.job(response_id),
        "channel": names.notifications(response_id),
        "prefix": names.prefix,
        "id": response_id,
    }


def conversation_names_of(conversation_id: str) -> Partition:
    """Returns the names of the keys in the partition of a conversation.

    Raises: UnknownConversation for any text that `new_conversation_id` cannot have created.
    """
    if not is_conversation(conversation_id):
        raise UnknownConversation(conversation_id)
    return _names(conversation_id[5:8])


@cache  # at most `MAX_PARTITIONS` entries, one for each value of three hex digits
def _names(digits: str) -> Partition:
    return Partition(int(digits, 16))
