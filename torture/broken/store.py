"""Stores responses, their logs and conversations in one SQLite database for all processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torture.broken.events import (
    DELTA,
    Json,
    conversation_of,
    ending,
    first_events,
    new_response,
    opening,
)
from torture.broken.faults import Fault

LEASE_SECONDS: Final = 4.0
LOCK_SECONDS: Final = 5.0
# The time between reading and writing in the faults that forget the transaction around both.
RACE_SECONDS: Final = 0.1

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS responses (
    id TEXT PRIMARY KEY, server TEXT, status TEXT, request TEXT, body TEXT,
    fence INTEGER DEFAULT 0, lease REAL DEFAULT 0, key TEXT UNIQUE, fingerprint TEXT);
CREATE INDEX IF NOT EXISTS waiting ON responses (status, lease);
CREATE TABLE IF NOT EXISTS events (
    response TEXT, number INTEGER, data TEXT, PRIMARY KEY (response, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversations (id TEXT PRIMARY KEY, body TEXT);
CREATE TABLE IF NOT EXISTS items (
    position INTEGER PRIMARY KEY AUTOINCREMENT, conversation TEXT, data TEXT);
"""


class LeaseLostError(Exception):
    """The response has ended, or another worker has claimed it."""


class KeyReusedError(Exception):
    """The idempotency key belongs to another request."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to write a response."""

    response: Json
    request: Json
    fence: int
    text: str
    """The text that a worker which lost its lease has written."""

    @property
    def id(self) -> str:
        return str(self.response["id"])


class Store:
    """Each method is one transaction, except where a fault is switched on."""

    def __init__(self, path: Path, fault: Fault | None) -> None:
        self._fault = fault
        self._database = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def create(self, request: Json, *, server: str, key: str | None, fingerprint: str) -> str:
        """Stores a request and the first events of its log. Returns the response's id.

        If the idempotency key is known, returns the id of the earlier response.

        Raises:
            KeyReusedError: The earlier request was a different one.
        """
        if self._fault is Fault.DUPLICATE_SUBMIT:
            key = None
        with self._transaction() as database:
            if key is not None:
                row = database.execute(
                    "SELECT id, fingerprint FROM responses WHERE key = ?", (key,)
                ).fetchone()
                if row is not None:
                    if row[1] != fingerprint:
                        raise KeyReusedError
                    return str(row[0])
            response = new_response(f"resp_{secrets.token_hex(12)}", request)
            database.execute(
                "INSERT INTO responses (id, server, status, request, body, key, fingerprint)"
                " VALUES (?, ?, 'queued', ?, ?, ?, ?)",
                (
                    response["id"],
                    server,
                    json.dumps(request),
                    json.dumps(response),
                    key,
                    fingerprint,
                ),
            )
            self._log(response["id"], first_events(response))
        return str(response["id"])

    def response(self, response_id: str, server: str) -> Json | None:
        """Returns a response object, or None if it does not exist."""
        row = self._database.execute(
            "SELECT body, server FROM responses WHERE id = ?", (response_id,)
        ).fetchone()
        if row is None or (self._fault is Fault.LOCAL_STREAMS and row[1] != server):
            return None
        body: Json = json.loads(row[0])
        return body

    def turn(self, response_id: str) -> tuple[Json, list[Json]] | None:
        """Returns the request and the output of a response, or None if it does not exist."""
        row = self._database.execute(
            "SELECT request, body FROM responses WHERE id = ?", (response_id,)
        ).fetchone()
        return None if row is None else (json.loads(row[0]), json.loads(row[1])["output"])

    def events(self, response_id: str, after: int) -> list[tuple[int, str]]:
        """Returns the numbers and JSON of the events after a number."""
        return self._database.execute(
            "SELECT number, data FROM events WHERE response = ? AND number > ? ORDER BY number",
            (response_id, after),
        ).fetchall()

    def last_number(self, response_id: str) -> int:
        """Returns the number of the last event in a log, or -1 for an empty log."""
        (last,) = self._database.execute(
            "SELECT coalesce(max(number), -1) FROM events WHERE response = ?", (response_id,)
        ).fetchone()
        return int(last)

    def has_ended(self, response_id: str) -> bool:
        """Returns True if the log of a response has its last event, or does not exist."""
        return not self._database.execute(
            "SELECT 1 FROM responses WHERE id = ? AND status IN ('queued', 'in_progress')",
            (response_id,),
        ).fetchall()

    def delete(self, response_id: str) -> None:
        with self._transaction() as database:
            database.execute("DELETE FROM responses WHERE id = ?", (response_id,))
            database.execute("DELETE FROM events WHERE response = ?", (response_id,))

    def cancel(self, response_id: str) -> None:
        """Ends a response that has not ended yet."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT body FROM responses WHERE id = ? AND status IN ('queued', 'in_progress')",
                (response_id,),
            ).fetchone()
            if row is not None:
                events, final = ending(json.loads(row[0]), self.text(response_id), "cancelled")
                self._log(response_id, events)
                self._finish(final)

    async def claim(self) -> Claim | None:
        """Claims a waiting response, or one whose worker has lost its lease."""
        found = self._next()
        if found is None:
            return None
        if self._fault in (Fault.NO_FENCE, Fault.DOUBLE_CLAIM):
            await asyncio.sleep(RACE_SECONDS)
        response_id, fence = found
        raised = fence if self._fault is Fault.NO_FENCE else fence + 1
        with self._transaction() as database:
            text = self.text(response_id)
            changed = database.execute(
                "UPDATE responses SET status = 'in_progress', fence = ?, lease = ?"
                " WHERE id = ? AND fence = ? AND status IN ('queued', 'in_progress')",
                (raised, time.time() + LEASE_SECONDS, response_id, fence),
            ).rowcount
            body, request = database.execute(
                "SELECT body, request FROM responses WHERE id = ?", (response_id,)
            ).fetchone()
            response: Json = {**json.loads(body), "status": "in_progress"}
            if changed:
                if fence == 0:
                    self._log(response_id, opening(response))
                self._update(response)
            elif self._fault is not Fault.DOUBLE_CLAIM:
                return None
        return Claim(response, json.loads(request), raised if changed else -1, text)

    def _next(self) -> tuple[str, int] | None:
        leases = 0 if self._fault is Fault.NO_LEASE else 1
        found: tuple[str, int] | None = self._database.execute(
            "SELECT id, fence FROM responses WHERE status = 'queued'"
            " OR (? AND status = 'in_progress' AND lease < ?) ORDER BY rowid LIMIT 1",
            (leases, time.time()),
        ).fetchone()
        return found

    def renew(self, claim: Claim) -> bool:
        """Extends a lease. Returns False if the worker no longer owns the response."""
        return bool(
            self._database.execute(
                "UPDATE responses SET lease = ?"
                " WHERE id = ? AND fence = ? AND status = 'in_progress'",
                (time.time() + LEASE_SECONDS, claim.id, claim.fence),
            ).rowcount
        )

    def append(self, claim: Claim, events: list[Json], final: Json | None = None) -> None:
        """Appends events to a log. The last ones come with the response's final state.

        Raises:
            LeaseLostError: The worker no longer owns the response.
        """
        with self._transaction() as database:
            row = database.execute(
                "SELECT fence, status FROM responses WHERE id = ?", (claim.id,)
            ).fetchone()
            owned = row is not None and tuple(row) == (claim.fence, "in_progress")
            if self._fault in (Fault.NO_FENCE, Fault.CANCELLED_THEN_COMPLETED):
                owned = row is not None and row[0] == claim.fence
            if not owned:
                raise LeaseLostError
            self._log(claim.id, events)
            if final is not None:
                self._finish(final)

    def _log(self, response_id: str, events: list[Json]) -> None:
        first = self.last_number(response_id) + 1
        self._database.executemany(
            "INSERT INTO events (response, number, data) VALUES (?, ?, ?)",
            [
                (response_id, number, json.dumps({**event, "sequence_number": number}))
                for number, event in enumerate(events, first)
            ],
        )

    def text(self, response_id: str) -> str:
        """Returns the text of the deltas in a log."""
        events = (json.loads(data) for _, data in self.events(response_id, -1))
        return "".join(event["delta"] for event in events if event["type"] == DELTA)

    def _update(self, response: Json) -> None:
        self._database.execute(
            "UPDATE responses SET body = ?, status = ? WHERE id = ?",
            (json.dumps(response), response["status"], response["id"]),
        )

    def _finish(self, final: Json) -> None:
        self._update(final)
        turn = self.turn(final["id"])
        conversation = conversation_of(turn[0]) if turn else None
        if turn and conversation and self._fault is not Fault.LOST_TURN:
            self._add_items(conversation, [*input_items(turn[0]), *final["output"]])

    # Conversations.

    def create_conversation(self, metadata: Json, items: list[Json]) -> Json:
        body: Json = {
            "id": f"conv_{secrets.token_hex(12)}",
            "object": "conversation",
            "created_at": int(time.time()),
            "metadata": metadata,
        }
        with self._transaction() as database:
            database.execute(
                "INSERT INTO conversations VALUES (?, ?)", (body["id"], json.dumps(body))
            )
            self._add_items(body["id"], items)
        return body

    def conversation(self, conversation_id: str) -> Json | None:
        row = self._database.execute(
            "SELECT body FROM conversations WHERE id = ?", (conversation_id,)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def items(self, conversation_id: str) -> list[Json]:
        """Returns the items of a conversation, oldest first."""
        rows = self._database.execute(
            "SELECT data FROM items WHERE conversation = ? ORDER BY position", (conversation_id,)
        )
        return [json.loads(data) for (data,) in rows]

    def add_items(self, conversation_id: str, items: list[Json]) -> None:
        with self._transaction():
            self._add_items(conversation_id, items)

    def replace_items(self, conversation_id: str, items: list[Json]) -> None:
        """Overwrites a conversation. Only a fault does this."""
        with self._transaction() as database:
            database.execute("DELETE FROM items WHERE conversation = ?", (conversation_id,))
            self._add_items(conversation_id, items)

    def _add_items(self, conversation_id: str, items: list[Json]) -> None:
        self._database.executemany(
            "INSERT INTO items (conversation, data) VALUES (?, ?)",
            [
                (conversation_id, json.dumps({"id": f"msg_{secrets.token_hex(12)}", **item}))
                for item in items
            ],
        )


def input_items(request: Json) -> list[Json]:
    """Returns the input of a request as items."""
    given = request["input"]
    if isinstance(given, str):
        content = [{"type": "input_text", "text": given}]
        return [{"type": "message", "role": "user", "status": "completed", "content": content}]
    return [{"type": "message", "status": "completed", **item} for item in given]
