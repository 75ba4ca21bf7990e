"""How strictly a drift is judged: the rate of false alarms, and what a user allows beyond what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from esa_pytest.names import CALIBRATION_NAMES, MEMORY, THROUGHPUT

FALSE_ALARM_RATE = 1e-4
# What a user may widen: metrics of tier 5, the statistics of tiers 3 and 4 that have a plain unit, and shares of what
# tier 6 compares.
TOLERANCE_NAMES = (
    "mean_nll",
    "perplexity",
    "token_accuracy",
    *CALIBRATION_NAMES,
    "rms",
    "top1_flips",
    "reference_rms",
    "reference_maximum",
    THROUGHPUT,
    MEMORY,
    "position_nll",
    "context_gain",
    "retrieval_gain",
)
TOLERANCES = "[tool.esa.tolerances]"


class ResourceMode(StrEnum):
    """What becomes of a drift of throughput or memory: not asked, told with a warning, or a failure."""

    OFF = "off"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a check goes by beside its golden.

    Attributes:
        false_alarm_rate: how often a check may fail where nothing is wrong, all its statistics together.
        tolerances: the least that is allowed, by the names of `TOLERANCE_NAMES`; they only widen what was measured.
        resources: what becomes of a drift of throughput or memory.
    """

    false_alarm_rate: float = FALSE_ALARM_RATE
    tolerances: Mapping[str, float] = field(default_factory=dict)
    resources: ResourceMode = ResourceMode.FAIL

    def widened(self, name: str, measured: float, source: str) -> tuple[float, str]:
        """What is allowed of one statistic, and where that comes from."""
        wanted = self.tolerances.get(name)
        if wanted is None or wanted <= measured:
            return measured, source
        return wanted, f"{TOLERANCES}, {source} was {measured:.2g}"


DEFAULT_RULES = Rules()


def without_resources(rules: Rules) -> Rules:
    """The rules for what asks whether a model computes what it did, and not how fast."""
    return replace(rules, resources=ResourceMode.OFF)
