"""How each incident is replayed: by the releases that had it, or by one line that does the same."""

from dataclasses import replace

from esa_pytest.evaluation.metrics import compute_metrics
from esa_pytest.records import Probe, TokenScores
from tests.incidents.found import Found, find
from tests.incidents.jobs import Job
from tests.incidents.recording import Setting, measured, recorded
from tests.incidents.releases import NEWEST
from tests.incidents.subjects import PLAIN_LLAMA

EAGER = Job(attention="eager")
# Loaded in float32 and narrowed afterwards, with every buffer.
NARROWED = Job(attention="eager", dtype="float32", changes=("to bfloat16",))


def release_pair(model: str, before: str, after: str, job: Job, *, changes: tuple[str, ...] = ()) -> Found:
    """A model under two releases; under the later one with changes, if any are given."""
    golden = recorded(Setting(release=before, model=model, job=job))
    new = measured(Setting(release=after, model=model, job=replace(job, changes=(*job.changes, *changes))))
    return find(golden, new)


def other_kernel() -> Found:
    """Another attention kernel, of which the golden's noise knows nothing."""
    golden = recorded(Setting(release=NEWEST, model=PLAIN_LLAMA), held_out="attention eager")
    return find(golden, measured(Setting(release=NEWEST, model=PLAIN_LLAMA, job=EAGER)))


def default_dtype(before: str, after: str) -> Found:
    """A model loaded by somebody who says no dtype; tier 0 needs no noise."""
    job = Job(attention="eager", dtype=None)
    golden = measured(Setting(release=before, model=PLAIN_LLAMA, job=job))
    return find(golden, measured(Setting(release=after, model=PLAIN_LLAMA, job=job)))


def summed_loss(steps: int) -> Found:
    """A scorer that adds up the losses of accumulation steps where it should average them."""
    golden = recorded(Setting(release=NEWEST, model=PLAIN_LLAMA))
    assert isinstance(golden.scores, TokenScores)
    scores = replace(golden.scores, nll=golden.scores.nll * steps)
    environment = {**golden.environment, "version.trainer": "a release that sums"}
    probe = _beside(golden.probe, steps)
    return find(
        golden, replace(golden, scores=scores, metrics=compute_metrics(scores), environment=environment, probe=probe)
    )


def other_windows(context_length: int) -> Found:
    """The same text cut into windows of another length."""
    golden = measured(Setting(release=NEWEST, model=PLAIN_LLAMA))
    return find(golden, measured(Setting(release=NEWEST, model=PLAIN_LLAMA, context_length=context_length)))


def _beside(probe: Probe | None, steps: int) -> Probe:
    """The reference as it was, beside scores that are so many times too large."""
    assert probe is not None
    assert probe.rounded_nll is not None
    return replace(probe, rounded_nll=probe.rounded_nll * steps)
