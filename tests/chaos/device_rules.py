"""Checks the messages about conversations that devices have received. Does no I/O.

D1   a device receives each event of a feed once and in order, also over several sockets
D2   a device receives nothing of another user
D3   each response of a conversation begins once and ends once
D4   the state that a device has built from the events equals the state in the API
D5   the list that a device has equals the list in the API
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.history import Event

KIND = "holdline:conversation."
FOLLOWING = "holdline:following"


@dataclass(frozen=True)
class Observed:
    """A conversation in `GET /v1/conversations`, and its items, oldest first."""

    listed: Event
    items: list[Event]

    @property
    def id(self) -> str:
        return str(self.listed["id"])


@dataclass
class Feed:
    """The events of one feed that a device has received. `number` and `event_id` are its cursor."""

    number: int | None = None
    event_id: str | None = None
    events: list[Event] = field(default_factory=list)
    resets: int = 0


@dataclass
class Device:
    """The messages that a device has received, over all of its sockets.

    `gone` contains the ids of deleted conversations.
    """

    name: str
    user: str
    feeds: dict[str | None, Feed] = field(default_factory=dict)
    listed: dict[str, Event] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    anomalies: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    sockets: int = 0
    resumes: int = 0
    _greeted: set[str | None] = field(default_factory=set)

    def connected(self) -> None:
        """Begins a new socket."""
        self.sockets += 1
        self._greeted = set()

    def cursor(self, id_: str | None) -> Event:
        """Returns the fields with which the device follows a feed again.

        A conversation is followed from its first event on, and the list from its current state on.
        """
        feed = self.feeds.setdefault(id_, Feed())
        if feed.number is None:
            return {} if id_ is None else {"starting_after": -1}
        self.resumes += 1
        return {"starting_after": feed.number, "event_id": feed.event_id or ""}

    def received(self, event: Event) -> None:
        """Handles a message other than an error."""
        kind = event["type"]
        if (owner := _owner_of(event)) not in (None, self.user):
            self.foreign.append(f"{kind} of {owner}")
        if kind == FOLLOWING:
            self._following(event)
        elif kind == f"{KIND}deleted":
            self.gone.add(event["conversation"])
        elif kind.startswith(KIND):
            self._advance(event["conversation"], event)
        elif kind.startswith("holdline:list."):
            self._advance(None, event)
            if kind.endswith("deleted"):
                self.listed.pop(event["conversation"], None)
            else:
                self._keep(event["conversation"])

    def last(self, id_: str | None) -> int:
        """Returns the number of the last event of a feed, or -1."""
        feed = self.feeds.get(id_)
        return -1 if feed is None or feed.number is None else feed.number

    def items(self, id_: str) -> list[str]:
        """Returns the ids of the items of a conversation."""
        return [one["id"] for one in state_of(self.feeds.get(id_, Feed()).events).items]

    def _following(self, event: Event) -> None:
        about = event.get("conversation")
        id_ = None if about is None else about["id"]
        feed = self.feeds.setdefault(id_, Feed())
        if event["reset"]:
            feed.resets += 1
            feed.events = []
            feed.number, feed.event_id = -1, None
        if id_ is None:
            if event["reset"] or feed.number is None:
                feed.number, feed.event_id = event["sequence_number"], event["event_id"]
                self.listed = {}
            for one in event["conversations"]:
                self._keep(one)
        elif feed.number is None:
            feed.number = -1

    def _advance(self, id_: str | None, event: Event) -> None:
        feed, number = self.feeds.setdefault(id_, Feed()), event["sequence_number"]
        if feed.number is None or number != feed.number + 1:
            what = "repeated" if feed.number is not None and number <= feed.number else "a gap"
            self.anomalies.append(f"{number} after {feed.number} in {id_ or 'the list'}: {what}")
        feed.number, feed.event_id = number, event["event_id"]
        feed.events.append(event)

    def _keep(self, state: Event) -> None:
        known = self.listed.get(state["id"])
        numbers = [one["holdline"]["sequence_number"] for one in (known, state) if one]
        if numbers == sorted(numbers):
            self.listed[state["id"]] = state


@dataclass
class State:
    """The state of a conversation, built from its events."""

    metadata: dict[str, str] = field(default_factory=dict)
    items: list[Event] = field(default_factory=list)
    read: int = -1
    news: int = -1
    begun: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def running(self) -> list[str]:
        return sorted(self.begun.keys() - self.ended.keys())


def state_of(events: list[Event]) -> State:
    """Returns the state after the events of a feed.

    The metadata are those of the newest event, because an event is delivered with the current ones.
    Items that were deleted before the delivery of their event are not in it.
    """
    state = State()
    gone = {one["item_id"] for one in events if one["type"] == f"{KIND}item.deleted"}
    for event in events:
        match event["type"].removeprefix(KIND):
            case "created" | "updated":
                state.metadata = event["metadata"]
            case "items.added":
                state.news = event["sequence_number"]
                state.items += [one for one in event["items"] if one["id"] not in gone]
            case "read":
                state.read = max(state.read, event["read"])
            case "response.created":
                state.begun[event["response_id"]] += 1
            case "response.ended":
                state.ended[event["response_id"]] += 1
            case _:
                pass
    return state


@dataclass(frozen=True)
class Finding:
    """A broken rule."""

    rule: str
    about: str
    says: str


def check_devices(devices: list[Device], observed: dict[str, list[Observed]]) -> list[Finding]:
    """Checks the messages of all devices, and their state at the end of a run."""
    findings: list[Finding] = []

    def complain(rule: str, about: str, says: str) -> None:
        findings.append(Finding(rule, about, says))

    for device in devices:
        own = {one.id: one for one in observed[device.user]}
        for says in device.anomalies:
            complain("D1", device.name, says)
        for says in device.foreign:
            complain("D2", device.name, f"received {says}")
        for id_, feed in device.feeds.items():
            if feed.resets:
                complain("D1", device.name, f"{feed.resets} resets of {id_ or 'the list'}")
            if id_ is None or id_ in device.gone:
                continue
            if id_ in own:
                _check_state(device, feed, own[id_], complain)
            else:
                complain("D4", device.name, f"did not learn that {id_} was deleted")
        if missing := own.keys() - device.feeds.keys():
            complain("D4", device.name, f"never followed {', '.join(sorted(missing))}")
        _check_list(device, own, complain)
    return findings


def _check_state(device: Device, feed: Feed, real: Observed, complain: Any) -> None:
    state, listed = state_of(feed.events), real.listed["holdline"]
    pairs = {
        "the last number": (feed.number, listed["sequence_number"]),
        "the metadata": (state.metadata, real.listed["metadata"]),
        "the items": (state.items, real.items),
        "the running responses": (state.running, sorted(listed["running"])),
        "the read mark": (state.read, listed["read"]),
        "unread": (state.news > state.read, listed["unread"]),
    }
    for what, (mine, theirs) in pairs.items():
        if mine != theirs:
            complain(
                "D4", device.name, f"{what} of {real.id}: {_short(mine)}, not {_short(theirs)}"
            )
    for response, number in (state.begun + state.ended).items():
        if state.begun[response] != 1 or state.ended[response] != 1:
            says = (
                f"{response} began {state.begun[response]} and ended {state.ended[response]} times"
            )
            complain("D3", device.name, f"{says} ({number} events)")
    order = [one for one in feed.events if one.get("response_id")]
    over: set[str] = set()
    for event in order:
        if event["response_id"] in over:
            complain("D3", device.name, f"{event['type']} after the end of {event['response_id']}")
        if event["type"] == f"{KIND}response.ended":
            over.add(event["response_id"])


def _check_list(device: Device, own: dict[str, Observed], complain: Any) -> None:
    if device.listed.keys() != own.keys():
        differ = sorted(device.listed.keys() ^ own.keys())
        complain("D5", device.name, f"has another list: {', '.join(differ)}")
    for id_ in device.listed.keys() & own.keys():
        mine, theirs = (_comparable(one) for one in (device.listed[id_], own[id_].listed))
        if mine != theirs:
            complain("D5", device.name, f"{id_} is {_short(mine)}, not {_short(theirs)}")


def _comparable(listed: Event) -> Event:
    """Returns the fields that the feed of a list keeps current.

    A deleted item causes no event in the list, so the number of the last event may be older.
    """
    status = {
        name: value for name, value in listed["holdline"].items() if name != "sequence_number"
    }
    return {"metadata": listed["metadata"], **status, "running": sorted(status["running"])}


def _owner_of(event: Event) -> str | None:
    """Returns the user in the metadata of an event's conversation or response, if they name one."""
    about = event.get("conversation"), event.get("response")
    for one in [*(each for each in about if isinstance(each, dict)), event]:
        if user := (one.get("metadata") or {}).get("user"):
            return str(user)
    return None


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 160 else f"{text[:80]}…{text[-80:]}"
