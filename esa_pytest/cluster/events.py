"""What machines tell the driver of their tries, and what the driver asks of machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from esa_pytest.cluster.book import Try
from esa_pytest.cluster.needs import Need, Node


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A try came to its end; `payload` is the JSON of its `Answer`."""

    attempt: Try
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The machine of a try went away; `cause` is a clause."""

    attempt: Try
    cause: str


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A try ended in a way that another one would end in too; `cause` is a sentence."""

    attempt: Try
    cause: str


Event = Answered | Lost | Failed


class Machines(Protocol):
    """A cluster as the driver's loop sees it."""

    def nodes(self) -> Sequence[Node]:
        """The nodes that are alive."""

    def start(self, attempt: Try, payload: bytes, need: Need) -> None:
        """Queue a try; `payload` is the JSON of its `Job`."""

    def events(self, *, seconds: float) -> Sequence[Event]:
        """What happened, after at most so many seconds."""

    def cancel(self, attempts: Sequence[Try]) -> None:
        """End tries whose answers are no longer wanted."""
