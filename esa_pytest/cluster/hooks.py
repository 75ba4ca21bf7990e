"""The hooks of running elsewhere: the order that pytest-xdist's workers get, and `--esa-ray`. Light until used."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from esa_pytest.errors import ClusterError
from esa_pytest.evaluation.ranks import world_size
from esa_pytest.invocation import runs_no_test
from esa_pytest.options import is_configured
from esa_pytest.resume.hooks import baseline_of

if TYPE_CHECKING:
    from esa_pytest.cluster.ray_machines import RayMachines
    from esa_pytest.settings import Settings

_SECONDS = "esa_seconds"
ADDRESS, RESUME = "--esa-ray", "--esa-resume"


class LongestFirst:
    """A pytest plugin that lets pytest-xdist begin with the models that take longest, one model a worker.

    The controller alone looks at the last run's manifests, and tells its workers: all must collect in one order, one
    that takes the place of a worker that died included.
    """

    def __init__(self, config: pytest.Config, *, settings: Callable[[], "Settings"]) -> None:
        self._config = config
        self._settings = settings
        self._seconds: dict[str, float] | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker how long each baseline is expected to take."""
        if not is_configured(self._config):
            return
        if self._seconds is None:
            from esa_pytest.cluster.expected import expected_seconds

            settings = self._settings()
            self._seconds = expected_seconds(settings.baselines, settings.output_dir)
        node.workerinput[_SECONDS] = self._seconds
        # pytest-xdist would begin with the groups that have most tests.
        self._config.option.loadscopereorder = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """In a worker: guarded tests in front, the model that takes longest first."""
        seconds: dict[str, float] | None = getattr(self._config, "workerinput", {}).get(_SECONDS)
        if seconds is None:
            return
        from esa_pytest.cluster.order import longest_first

        guarded = [(item, baseline) for item in items if (baseline := baseline_of(item)) is not None]
        ordered = longest_first(
            guarded, group=lambda pair: pair[1].model_name, seconds=lambda pair: seconds.get(pair[1].id, 0.0)
        )
        others = [item for item in items if baseline_of(item) is None]
        items[:] = [*(item for item, _ in ordered), *others]


class OnRay:
    """A pytest plugin that judges guarded tests as tasks of a Ray cluster."""

    def __init__(self, config: pytest.Config, address: str, *, settings: Callable[[], "Settings"]) -> None:
        """Refuse what cannot work before anything is collected.

        Raises:
            pytest.UsageError: the address is none, ray is missing, or pytest-xdist distributes already.
        """
        self._config = config
        self._settings = settings
        if distributes(config):
            raise pytest.UsageError(
                f"{ADDRESS} and -n are two ways to run tests elsewhere, and one of them is enough; leave -n out."
            )
        self._address = _told(_checked, address)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Judge the guarded tests on the cluster, then run all others here."""
        guarded = [item for item in session.items if baseline_of(item) is not None]
        failed_to_collect = session.testsfailed and not session.config.option.continue_on_collection_errors
        if failed_to_collect or runs_no_test(self._config) or not guarded:
            return None
        from esa_pytest.cluster.driver import Driver

        machines = _told(_connected, self._address)
        try:
            Driver(self._config, self._settings(), guarded).run(machines, stop=lambda: _stop_early(session))
        finally:
            machines.close()
        others = [item for item in session.items if baseline_of(item) is None]
        # There may be none.
        for item, following in zip(others, [*others[1:], None], strict=False):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            _stop_early(session)
        return True


def refuse_under_torchrun(config: pytest.Config) -> None:
    """Ranks must take the same decisions: nobody may give one of them less to do.

    Raises:
        pytest.UsageError: an option would.
    """
    asked = {
        "-n": distributes(config),
        ADDRESS: config.getoption(ADDRESS),
        "--esa-resume": config.getoption("esa_resume"),
    }
    given = [name for name, value in asked.items() if value]
    if world_size() > 1 and given:
        raise pytest.UsageError(
            f"{' and '.join(given)} cannot be used under torchrun, whose ranks run every test together; leave it out."
        )


def distributes(config: pytest.Config) -> bool:
    """Whether pytest-xdist has workers."""
    return config.getoption("dist", default="no") != "no" or bool(getattr(config.option, "tx", None))


def silence(config: pytest.Config) -> None:
    """Let a rank that follows print nothing, and write no file that the first rank writes."""
    # Before pytest's terminal takes hold of it.
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (as long as the process)
    for name in ("xmlpath", "benchmark_json"):
        if hasattr(config.option, name):
            setattr(config.option, name, None)


def _stop_early(session: pytest.Session) -> None:
    """As pytest's own loop does after each test."""
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _checked(address: str) -> str:
    from esa_pytest.cluster.needs import THREADS, threads_of
    from esa_pytest.cluster.ray_machines import checked_address, ray_or_refuse

    checked = checked_address(address)
    threads_of(os.environ.get(THREADS, ""))
    ray_or_refuse()
    return checked


def _connected(address: str) -> "RayMachines":
    from esa_pytest.cluster.ray_machines import RayMachines

    return RayMachines(address)


def _told(action: Callable[[str], Any], address: str) -> Any:
    """A cause that a user can mend, as pytest tells usage errors."""
    try:
        return action(address)
    except ClusterError as error:
        raise pytest.UsageError(str(error)) from None
