"""Tiny checkpoints, and models loaded from them."""

import signal
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from esa_pytest.evaluation import widening
from esa_pytest.evaluation.loading import LoadedModel
from tests.model.fake_hub import FakeHub, point_to, serving
from tests.model.tiny import FAMILIES, load_folder, save_tiny, saved_tiny, write_corpus
from tests.threads import one_thread_a_worker  # noqa: F401  (a fixture of every test here)


@pytest.fixture(scope="session", params=FAMILIES)
def tiny_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of each family; read only."""
    return saved_tiny(str(request.param), tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> LoadedModel:
    """The loaded model of each family; not to be changed."""
    return load_folder(tiny_checkpoint)


@pytest.fixture(scope="session")
def llama_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of the first family; read only."""
    return saved_tiny("llama", tmp_path_factory)


@pytest.fixture
def llama(llama_checkpoint: Path) -> LoadedModel:
    """A freshly loaded tiny Llama, for a test to damage."""
    return load_folder(llama_checkpoint)


@pytest.fixture
def native_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is applied as the model itself does it, also where the processor has no bf16 arithmetic."""
    monkeypatch.setattr(widening, "multiplies_bf16", lambda: True)


@pytest.fixture(scope="module")
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, as it does in a terminal; a shell starts what it runs in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def own_checkpoint(tmp_path: Path) -> Path:
    """A checkpoint folder of a Llama, for a test to damage."""
    folder = tmp_path / "checkpoint"
    save_tiny("llama", folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of 1,000 bytes of running text."""
    return write_corpus(tmp_path)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder instead of the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ESA_CACHE", str(folder))
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the hub instead of the user's, and no token."""
    folder = tmp_path / "hub-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # The session is kept, with the proxies that it found.
    huggingface_hub.close_session()
    yield folder
    huggingface_hub.close_session()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE, as its users set it before Python starts."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def fake_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that answers on this machine, be it busy: only a hub that is not there is to be given up."""
    monkeypatch.setattr("esa_pytest.evaluation.hub.PATIENCE_SECONDS", 30.0)
    with serving(FakeHub()) as hub:
        point_to(hub.endpoint, monkeypatch)
        yield hub
