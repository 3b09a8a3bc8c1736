"""Defines the states of a `Flusher`, and the transitions between them.

The flusher is in one of these states:

    IDLE        all output is in the log
    SCHEDULED   a callback will append the output in the next iteration of the event loop
    WAITING     a timer will append the output, which is only text, when the interval is over
    SENDING     one append is in flight, and a callback will handle its reply
    FLUSHING    a task appends the output
    DRAINING    the producer appends the output itself, in `drain` or `finish`
    LOST        an append failed permanently, and `check` raises its error
    CLOSED      the context manager has exited

The transitions between the states are:

    state       event                                      next state
    IDLE        the producer adds output                   SCHEDULED
    SCHEDULED   the callback runs, the interval goes on    WAITING
    SCHEDULED   the callback runs, the connection is up    SENDING
    SCHEDULED   the callback runs, the connection is down  FLUSHING
    WAITING     the interval is over                       SENDING or FLUSHING, as from SCHEDULED
    WAITING     the producer adds an event or much text    SCHEDULED
    IDLE        the producer stores a checkpoint           SENDING or FLUSHING
    SENDING     a reply arrives, nothing is buffered       IDLE
    SENDING     a reply arrives, output is buffered        as from SCHEDULED
    SENDING     the append fails, or entries are unsent    FLUSHING
    FLUSHING    all output is in the log                   IDLE
    FLUSHING    a permanent error occurs                   LOST, and `on_loss` is called
    IDLE, SCHEDULED, WAITING, SENDING
                the producer calls `drain` or `finish`     DRAINING, from SENDING after the reply
    FLUSHING    the producer calls `drain` or `finish`     DRAINING, when the task has ended
    DRAINING    all output is in the log                   IDLE
    DRAINING    a permanent error occurs                   LOST, and the producer gets the error
    any         the context manager exits                  CLOSED
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """The states of a flusher."""

    IDLE = auto()
    SCHEDULED = auto()
    WAITING = auto()
    SENDING = auto()
    FLUSHING = auto()
    DRAINING = auto()
    LOST = auto()
    CLOSED = auto()
