"""What pytest gives a check."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syrupy.assertion import SnapshotAssertion

from esa_pytest.measuring.measurement import Benchmark, Limit
from esa_pytest.measuring.shelf import ModelShelf
from esa_pytest.settings import Settings

if TYPE_CHECKING:
    from esa_pytest.perturbation.guard import Guarded


@dataclass(frozen=True, kw_only=True)
class CheckContext:
    """What pytest gives a check: where to report, what to write, how to time.

    Attributes:
        settings: the session's settings.
        shelf: the session's loaded model.
        snapshot: syrupy's fixture.
        benchmark: pytest-benchmark's fixture, None without it.
        update: `--snapshot-update`.
        update_new_only: `--snapshot-update-new-only`.
        command: the command that runs this test alone.
        imported: seconds that importing what is heavy took, by part.
        verbosity: as `-v` and `-q` say.
        add_property: attaches a name and a value to the test's report.
        limit: guards the time of a phase, `load` or `evaluate`.
        guards: what has passed its check, by the baseline's id; of the model in memory only, which they hold.
        checked: the ids of what was checked by all rules, by a test of this process or by one whose verdict stands.
    """

    settings: Settings
    shelf: ModelShelf
    snapshot: SnapshotAssertion
    benchmark: Benchmark | None
    update: bool
    update_new_only: bool
    command: str
    imported: Mapping[str, float]
    verbosity: int
    add_property: Callable[[str, object], None]
    limit: Limit
    guards: "dict[str, Guarded]"
    checked: set[str]
