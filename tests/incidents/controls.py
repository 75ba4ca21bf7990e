"""Negative controls: changes that move nothing, or nothing that matters, and must pass."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from esa_pytest.records import Outcome
from tests.incidents.found import Found, find
from tests.incidents.jobs import Job
from tests.incidents.recording import Setting, measured, recorded
from tests.incidents.releases import NEWEST
from tests.incidents.subjects import PLAIN_LLAMA, PYTHIA
from tests.incidents.train import QWEN2

# Plain Llama has the same bits in every release from this one on.
OLDEST_EQUAL = "4.36.2"


@dataclass(frozen=True, kw_only=True)
class Control:
    """A change that must pass.

    Attributes:
        changed: what.
        outcome: what a check has to conclude.
        or_else: what it may conclude on another processor, where that depends on its kernels.
        replay: does it.
    """

    changed: str
    outcome: Outcome
    replay: Callable[[], Found]
    or_else: Outcome | None = None


def released(model: str, before: str, after: str, job: Job) -> Found:
    """A model under two releases that have the same bits; no noise is asked for."""
    golden = measured(Setting(release=before, model=model, job=job))
    return find(golden, measured(Setting(release=after, model=model, job=job)))


def harmless(what: str, job: Job, *, variables: tuple[tuple[str, str], ...] = ()) -> Found:
    """A Llama scored in a way that its golden's noise does not know; declared to be of another environment."""
    golden = recorded(Setting(release=NEWEST, model=PLAIN_LLAMA))
    new = measured(Setting(release=NEWEST, model=PLAIN_LLAMA, job=job), variables=variables)
    return find(golden, replace(new, environment={**new.environment, "declared": what}))


def _identical(what: str, job: Job, *, variables: tuple[tuple[str, str], ...] = ()) -> Control:
    return Control(changed=what, outcome=Outcome.IDENTICAL, replay=partial(harmless, what, job, variables=variables))


def _rounding(what: str, job: Job, *, variables: tuple[tuple[str, str], ...] = ()) -> Control:
    return Control(changed=what, outcome=Outcome.WITHIN_NOISE, replay=partial(harmless, what, job, variables=variables))


CONTROLS: tuple[Control, ...] = (
    *(
        Control(
            changed=f"Llama, transformers {OLDEST_EQUAL} -> {release}, sdpa",
            outcome=Outcome.IDENTICAL,
            replay=partial(released, PLAIN_LLAMA, OLDEST_EQUAL, release, Job()),
        )
        for release in ("4.37.2", "4.47.1", "4.57.6", "5.0.0", NEWEST)
    ),
    Control(
        changed="the Pythia twin, transformers 4.34.1 -> 4.37.2, eager: I02 mended",
        outcome=Outcome.IDENTICAL,
        replay=partial(released, PYTHIA, "4.34.1", "4.37.2", Job(attention="eager")),
    ),
    Control(
        changed="Qwen2 with a window, transformers 4.47.1 -> 4.49.0, sdpa: I03 mended",
        outcome=Outcome.IDENTICAL,
        replay=partial(released, QWEN2, "4.47.1", "4.49.0", Job()),
    ),
    _identical("two threads instead of one", Job(threads=2)),
    _identical("two windows a batch instead of one", Job(windows_at_once=2)),
    _identical("an explicit causal mask and positions", Job(explicit_mask=True)),
    _rounding("every RoPE position + 1", Job(first_position=1)),
    _rounding("RMSNorm multiplies before it rounds", Job(changes=("norms in float32",))),
    _rounding("16 masked tokens in front of each window", Job(left_padding=16)),
    # With AMX no product goes through MKL.
    replace(
        _rounding("MKL's compatible kernels", Job(), variables=(("MKL_CBWR", "COMPATIBLE"),)),
        or_else=Outcome.IDENTICAL,
    ),
)
