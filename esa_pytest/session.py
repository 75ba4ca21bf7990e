"""What the plugin keeps for one pytest session: settings, parameters, the loaded model.

Light until a baseline is used: no torch, no pydantic.
"""

import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from esa_pytest.binding import marks_of
from esa_pytest.errors import SettingError
from esa_pytest.evaluation.ranks import is_follower
from esa_pytest.invocation import command_of
from esa_pytest.standing import is_guarded
from esa_pytest.stash import CHECKED

if TYPE_CHECKING:
    from esa_pytest.baselines.catalog import Baseline
    from esa_pytest.check.guarded import GuardedBaseline
    from esa_pytest.evaluation.checkpoints import Checkpoint
    from esa_pytest.measuring.measurement import Limit
    from esa_pytest.measuring.shelf import ModelShelf
    from esa_pytest.perturbation import Guarded
    from esa_pytest.settings import Settings

_WITHOUT_SYRUPY = "esa-pytest keeps its goldens through syrupy, which -p no:syrupy switches off; leave that option out."
SESSION = pytest.StashKey["BaselineSession"]()


class BaselineSession:
    """The state of one session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._settings: Settings | None = None
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._shelf: ModelShelf | None = None
        self._guards: dict[str, Guarded] = {}
        self._checked = config.stash[CHECKED] = set[str]()

    def settings(self) -> "Settings":
        """The settings, resolved at first use.

        No property: older releases of pytest read every attribute of a plugin when it is registered.

        Raises:
            SettingError: a value is not allowed.
        """
        if self._settings is None:
            from esa_pytest.settings import resolve

            self._settings = resolve(self._config)
            self._register_types(self._settings.baselines)
            if is_follower():
                # The first rank writes what all have measured.
                self._private = tempfile.TemporaryDirectory(prefix="esa-rank-")
                self._settings = replace(self._settings, output_dir=Path(self._private.name))
        return self._settings

    def _register_types(self, baselines: "Sequence[Baseline]") -> None:
        """Make marks of the types that are the user's own: pytest refuses or doubts one that nobody registered."""
        known = {re.split("[:(]", line)[0].strip() for line in self._config.getini("markers")}
        for name in dict.fromkeys(baseline.type_name for baseline in baselines):
            if name not in known:
                self._config.addinivalue_line("markers", f"{name}: baselines of the type {name} (esa-pytest)")

    def baselines(self) -> "tuple[Baseline, ...]":
        """Those of the matrix, for tests that are being collected: pytest would show a SettingError's traceback."""
        try:
            return self.settings().baselines
        except SettingError as error:
            pytest.fail(str(error), pytrace=False)

    def parameters(self) -> list[Any]:
        """One pytest parameter a baseline of the matrix, marked with its type and grouped by its model."""
        return [
            pytest.param(baseline, id=baseline.id, marks=marks_of(baseline, self._config))
            for baseline in self.baselines()
        ]

    def protect(self, items: Sequence[pytest.Item]) -> None:
        """Make sure that no other plugin's option takes a verdict away.

        pytest-benchmark skips, under `--benchmark-only`, what does not use its fixture, and under `--benchmark-skip`
        what does.

        Raises:
            pytest.UsageError: syrupy is switched off, and this is no worker, which could only end by it.
        """
        guarded = [item for item in items if is_guarded(item)]
        if guarded and not self._has_syrupy() and not hasattr(self._config, "workerinput"):
            raise pytest.UsageError(_WITHOUT_SYRUPY)
        if self._benchmarks():
            for item in guarded:
                names = getattr(item, "fixturenames", [])
                if "benchmark" not in names:
                    names.append("benchmark")

    def _has_syrupy(self) -> bool:
        return self._config.pluginmanager.hasplugin("syrupy")

    def _benchmarks(self) -> bool:
        active = self._config.pluginmanager.hasplugin("benchmark")
        only = self._config.getoption("benchmark_only", default=False)
        return active and (only or not self._config.getoption("benchmark_skip", default=False))

    def guard(self, request: pytest.FixtureRequest) -> "GuardedBaseline":
        """The object behind the `esa_baseline` fixture of one test."""
        if not self._has_syrupy():
            pytest.fail(_WITHOUT_SYRUPY, pytrace=False)
        from esa_pytest.imports import import_heavy

        imported = import_heavy()
        from esa_pytest.check.context import CheckContext
        from esa_pytest.check.guarded import GuardedBaseline
        from esa_pytest.measuring.shelf import ModelShelf

        if self._shelf is None:
            self._shelf = ModelShelf(
                device=self.settings().device, rehash=self.settings().rehash, when_dropped=self._guards.clear
            )
        benchmark = request.getfixturevalue("benchmark") if self._benchmarks() else None
        if benchmark is not None:
            # As pytest-benchmark does for a skipped test: who never measured, or could not, is told nothing of a
            # fixture that only we asked for. By then its own hook has seen how the test ended.
            request.addfinalizer(lambda: setattr(benchmark, "skipped", True))
        context = CheckContext(
            settings=self.settings(),
            shelf=self._shelf,
            snapshot=request.getfixturevalue("snapshot"),
            benchmark=benchmark,
            update=bool(self._config.option.update_snapshots),
            update_new_only=bool(self._config.option.update_new_snapshots_only),
            command=command_of(request.node),
            imported=imported,
            verbosity=request.config.get_verbosity(),
            add_property=lambda name, value: request.node.user_properties.append((name, value)),
            limit=self._limit(request.node),
            guards=self._guards,
            checked=self._checked,
        )
        return GuardedBaseline(request.param, context)

    def _limit(self, item: pytest.Item) -> "Limit":
        from esa_pytest.check.timeouts import limited

        seconds = {"load": self.settings().load_timeout, "evaluate": self.settings().evaluate_timeout}
        return lambda phase: limited(item, phase=phase, seconds=seconds[phase])

    def drop_models(self) -> None:
        """Free the loaded model and its device."""
        if self._shelf is not None:
            self._shelf.close()

    def loaded(self, baseline: "Baseline") -> "Checkpoint | None":
        """What the model of a baseline was loaded from, where it is the one in memory."""
        return None if self._shelf is None else self._shelf.checkpoint_of(baseline)

    def forget_frames(self, item: pytest.Item) -> None:
        """Empty the frames of a failed test: pytest keeps its traceback, and with it whatever model it held."""
        if is_guarded(item):
            for error in _with_causes(getattr(sys, "last_value", None)):
                traceback.clear_frames(error.__traceback__)
                for frame, _ in traceback.walk_tb(error.__traceback__):
                    # Before Python 3.13 a frame keeps the locals that were looked at, until it is asked for them anew.
                    len(frame.f_locals)


def _with_causes(error: BaseException | None) -> list[BaseException]:
    """An exception, those it came from, and those that it groups."""
    found: list[BaseException] = []
    ahead = [error]
    while ahead:
        error = ahead.pop()
        if error is not None and not any(error is known for known in found):
            found.append(error)
            ahead += [error.__cause__, error.__context__]
            ahead += error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return found


def settings_or_usage_error(session: BaselineSession) -> None:
    """Resolve the settings now.

    Raises:
        pytest.UsageError: a value is not allowed; the message lists the valid ones.
    """
    try:
        session.settings()
    except SettingError as error:
        raise pytest.UsageError(str(error)) from None
