"""What is heavy is imported with the garbage collector at rest."""

import gc
from types import SimpleNamespace

import pytest

from esa_pytest import imports


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "sys", SimpleNamespace(modules={}))


@pytest.fixture
def at_work_when_frozen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the collector was at work at each freeze; the process's own count says nothing of one test, since the
    tests before it freeze what they import."""
    calls: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(gc.isenabled()))
    return calls


def import_while(monkeypatch: pytest.MonkeyPatch, action: object) -> dict[str, float]:
    monkeypatch.setattr(imports.importlib, "import_module", action)  # type: ignore[attr-defined]
    return imports.import_heavy()


def test_the_collector_rests_during_the_imports_and_leaves_alone_what_is_there(
    monkeypatch: pytest.MonkeyPatch, without_torch: None, at_work_when_frozen: list[bool]
) -> None:
    at_work: list[bool] = []
    seconds = import_while(monkeypatch, lambda _: at_work.append(gc.isenabled()))
    assert list(seconds) == ["import_torch", "import_transformers", "import_esa"]
    assert at_work == [False] * 3
    assert gc.isenabled()
    assert at_work_when_frozen == [False]


def test_the_collector_is_back_after_an_import_that_fails(
    monkeypatch: pytest.MonkeyPatch, without_torch: None, at_work_when_frozen: list[bool]
) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    with pytest.raises(ImportError):
        import_while(monkeypatch, fail)
    assert gc.isenabled()
    assert at_work_when_frozen == []


def test_where_torch_is_there_already_the_collector_is_left_to_its_work(
    monkeypatch: pytest.MonkeyPatch, at_work_when_frozen: list[bool]
) -> None:
    at_work: list[bool] = []
    monkeypatch.setattr(imports, "sys", SimpleNamespace(modules={"torch": None}))
    import_while(monkeypatch, lambda _: at_work.append(gc.isenabled()))
    assert at_work == [True] * 3
    assert at_work_when_frozen == []


def test_a_collector_that_is_switched_off_stays_off(
    monkeypatch: pytest.MonkeyPatch, without_torch: None, at_work_when_frozen: list[bool]
) -> None:
    gc.disable()
    try:
        import_while(monkeypatch, lambda _: None)
        assert not gc.isenabled()
        assert at_work_when_frozen == []
    finally:
        gc.enable()
