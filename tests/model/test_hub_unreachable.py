"""A hub that cannot be used is found out once, soon, and with a reason."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from esa_pytest.baselines.sources import HubModel
from esa_pytest.errors import HubUnreachableError
from esa_pytest.evaluation.availability import Availability, availability
from esa_pytest.evaluation.hub import Hub
from esa_pytest.measuring.shelf import ModelShelf
from tests.model.fake_hub import MODEL, FakeHub, point_to
from tests.model.tiny import tiny_baseline

pytestmark = pytest.mark.usefixtures("own_cache", "hub_cache")
OTHER = HubModel(repo="somebody/another", revision="f" * 40)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    point_to(endpoint, monkeypatch)
    return endpoint


class Mute:
    """A server that accepts and never answers."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.num_accepted = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._kept.append(connection)
                self.num_accepted += 1

    def close(self) -> None:
        """Drop all connections."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for connection in self._kept:
            connection.close()


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mute]:
    server = Mute()
    point_to(server.endpoint, monkeypatch)
    yield server
    server.close()


def test_a_hub_that_nobody_listens_for(closed: str) -> None:
    with pytest.raises(HubUnreachableError) as caught:
        Hub().snapshot(MODEL)
    pattern = (
        rf"The model somebody/a-model at 0123456789ab is not in the hub's cache, and the hub {re.escape(closed)} "
        r"cannot be reached \([^()]*refused\); connect to the hub, or bring the cache from a machine that can "
        r"\(HF_HUB_CACHE\)\."
    )
    assert re.fullmatch(pattern, str(caught.value))


def test_a_hub_that_is_mute_is_asked_once_for_all_models(mute: Mute) -> None:
    hub = Hub()
    for model in (MODEL, OTHER, MODEL):
        with pytest.raises(HubUnreachableError) as caught:
            hub.snapshot(model)
        assert str(caught.value) == (
            f"The model {model.repo} at {model.revision[:12]} is not in the hub's cache, and the hub {mute.endpoint} "
            f"does not answer within 2 s; connect to the hub, or bring the cache from a machine that can "
            f"(HF_HUB_CACHE)."
        )
    assert mute.num_accepted == 1


def _asked_with(monkeypatch: pytest.MonkeyPatch, head: Callable[[], object]) -> list[str]:
    """Every question that the hub's client is asked goes to `head`; returns a list that grows with each."""
    asked: list[str] = []

    class Session:
        def head(self, url: str, **_options: Any) -> None:
            asked.append(url)
            head()

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    return asked


def test_a_shelf_asks_an_unreachable_hub_once_for_all_its_models(
    closed: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConnectionRefusedError

    asked = _asked_with(monkeypatch, refuse)
    shelf = ModelShelf(device="cpu")
    for name, model in (("one", MODEL), ("other", OTHER), ("one", MODEL)):
        baseline = tiny_baseline(Path(), corpus).model_copy(update={"model_name": name, "model": model})
        with pytest.raises(HubUnreachableError, match=r"cannot be reached \(ConnectionRefusedError\)"):
            shelf.get(baseline)
    assert asked == [closed]


def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No timeout of a client covers the lookup."""
    looked_up = threading.Event()
    asked = _asked_with(monkeypatch, looked_up.wait)
    try:
        assert Hub().unreachable_reason() == f"the hub {closed} does not answer within 2 s"
    finally:
        looked_up.set()
    assert asked == [closed]


def test_a_hub_that_answers_anything_can_be_used(fake_hub: FakeHub) -> None:
    fake_hub.files = {}
    hub = Hub()
    assert hub.unreachable_reason() is None
    assert hub.unreachable_reason() is None
    assert fake_hub.asked == ["HEAD /"]
    assert availability(MODEL, hub=hub) == Availability(state="to be fetched")


def test_a_hub_that_is_switched_off_is_not_asked(closed: str, offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _asked_with(monkeypatch, lambda: None)
    assert Hub().unreachable_reason() == "HF_HUB_OFFLINE forbids to ask the hub"
    assert asked == []
