"""What is heavy is imported with the garbage collector at rest."""

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from esa_pytest import imports


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(imports, "sys", SimpleNamespace(modules={}))
    yield
    gc.unfreeze()


def import_while(monkeypatch: pytest.MonkeyPatch, action: object) -> dict[str, float]:
    monkeypatch.setattr(imports.importlib, "import_module", action)  # type: ignore[attr-defined]
    return imports.import_heavy()


def test_the_collector_rests_during_the_imports_and_leaves_alone_what_is_there(
    monkeypatch: pytest.MonkeyPatch, without_torch: None
) -> None:
    at_work: list[bool] = []
    seconds = import_while(monkeypatch, lambda _: at_work.append(gc.isenabled()))
    assert list(seconds) == ["import_torch", "import_transformers", "import_esa"]
    assert at_work == [False] * 3
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_the_collector_is_back_after_an_import_that_fails(monkeypatch: pytest.MonkeyPatch, without_torch: None) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    with pytest.raises(ImportError):
        import_while(monkeypatch, fail)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_where_torch_is_there_already_the_collector_is_left_to_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work: list[bool] = []
    monkeypatch.setattr(imports, "sys", SimpleNamespace(modules={"torch": None}))
    import_while(monkeypatch, lambda _: at_work.append(gc.isenabled()))
    assert at_work == [True] * 3
    assert gc.get_freeze_count() == 0


def test_a_collector_that_is_switched_off_stays_off(monkeypatch: pytest.MonkeyPatch, without_torch: None) -> None:
    gc.disable()
    try:
        import_while(monkeypatch, lambda _: None)
        assert not gc.isenabled()
    finally:
        gc.enable()
