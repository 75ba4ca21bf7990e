"""What may take the place of a golden: how far its loss may move, and where its measured noise comes from."""

from dataclasses import replace

import numpy as np

from esa_pytest.drift.identity import identity_changes
from esa_pytest.drift.judge import describe_change, environment_changes
from esa_pytest.drift.resources import resource_drifts
from esa_pytest.drift.rules import DEFAULT_RULES, ResourceMode, Rules
from esa_pytest.drift.statistics import bit_drift
from esa_pytest.errors import AcceptanceError
from esa_pytest.records import MEMORY, Noise, Probe, Record, ResourceNoise, TokenScores

_MEASURE_IT = (
    "run it there with --esa-calibrate, or record it there with --snapshot-update, and take the record of that run"
)


def why_refused(golden: Record | None, measured: Record, *, limit: float, last_loss: float | None = None) -> str | None:
    """Why a run may not take the place of a golden unforced, as a sentence; None where it may.

    Where the inputs changed, the loss is that of another experiment and is not compared.

    Args:
        golden: what would be replaced; None where there is nothing that can be read.
        measured: the run.
        limit: the largest relative shift of the loss, in either direction.
        last_loss: the mean NLL that was accepted last, in nats, for a golden that is there and cannot be read.
    """
    if measured.metrics is None or (golden is not None and identity_changes(golden, measured)):
        return None
    before = last_loss if golden is None or golden.metrics is None else golden.metrics.mean_nll
    now = measured.metrics.mean_nll
    if before is None or abs(now - before) <= limit * abs(before):
        return None
    shift = f"{(now - before) / before:+.3g}" if before else f"{now - before:+.3g} nats from zero"
    return (
        f"The golden of {measured.baseline} was not replaced: its loss would go from {before:.6g} to {now:.6g}, a "
        f"relative shift of {shift}, and at most {limit:g} in either direction is accepted; find out what moved it, "
        f"then add --esa-force, or set --esa-accept-limit."
    )


def with_noise_of(golden: Record | None, measured: Record, rules: Rules = DEFAULT_RULES) -> Record:
    """A measured record with all that a golden must know of its noise.

    A plain run measures none. The noise of the golden is that of this record too where both are of the same experiment
    in the same environment; in another one nobody has seen whether bits repeat.

    Args:
        golden: what would be replaced; None where there is nothing that can be read.
        measured: the run.
        rules: what it was judged by; a drift of its resources that is one by these is accepted with it.

    Raises:
        AcceptanceError: the record lacks its noise, and the golden's is not that of this record.
    """
    if _knows_its_noise(measured):
        return measured
    lacks = f"The record of {measured.baseline} was not accepted: it is of a plain run, which measures no noise, and"
    if golden is None or not _knows_its_noise(golden):
        raise AcceptanceError(f"{lacks} there is no golden to take that from; {_MEASURE_IT}.")
    if changes := identity_changes(golden, measured):
        raise AcceptanceError(
            f"{lacks} the golden's is that of another experiment ({describe_change(changes[0])}); {_MEASURE_IT}."
        )
    if changes := environment_changes(golden.environment, measured.environment):
        raise AcceptanceError(
            f"{lacks} the golden's is that of another environment ({describe_change(changes[0])}), where equal bits "
            f"prove nothing about this one; {_MEASURE_IT}."
        )
    equal = bit_drift(golden.scores, measured.scores).num_changed == 0
    if measured.probe is None and equal:
        # A run with the golden's bits is not asked for its float32 reference, which is then the golden's too.
        measured = replace(measured, probe=golden.probe)
    if not _comparable(golden.probe, measured.probe):
        raise AcceptanceError(f"{lacks} the golden's float32 reference is not computed as this one; {_MEASURE_IT}.")
    if golden.noise is not None and not equal and not isinstance(measured.scores, TokenScores):
        raise AcceptanceError(
            f"{lacks} the golden's is about tokens that this record, which keeps sums of blocks, has other bits of; "
            f"{_MEASURE_IT}."
        )
    source = golden.provenance.get("noise_of") or golden.provenance.get("utc")
    return replace(
        measured,
        bit_stability=golden.bit_stability,
        probe_noise=golden.probe_noise,
        noise=golden.noise if equal else _carried(golden.noise, measured),
        resource_noise=_carried_resources(golden, measured, rules),
        provenance={**measured.provenance, "noise_of": source},
    )


def _carried(noise: Noise | None, measured: Record) -> Noise | None:
    """The noise about this record's own scores."""
    if noise is None:
        return None
    assert isinstance(measured.scores, TokenScores)  # noqa: S101  (asked before)
    return replace(noise, nll=measured.scores.nll[np.isin(measured.scores.window, noise.windows)])


def adds_noise(golden: Record, measured: Record) -> bool:
    """Whether a record knows the noise of its resources where the golden does not."""
    return golden.resource_noise is None and measured.resource_noise is not None


def _carried_resources(golden: Record, measured: Record, rules: Rules) -> ResourceNoise | None:
    """The golden's rounds, moved to what this run used where that is a drift: it is what is accepted."""
    if golden.resource_noise is None:
        return None
    factor, more = 1.0, 0.0
    for drift in resource_drifts(golden, measured, replace(rules, resources=ResourceMode.FAIL)):
        if not drift.beyond or drift.golden is None or drift.measured is None:
            continue
        if drift.name == MEMORY:
            # How far its rounds lie apart comes from the allocator, and does not grow with the work.
            more = drift.measured - drift.golden
        else:
            factor = drift.measured / drift.golden
    rounds = tuple(
        replace(
            done,
            efficiency=None if done.efficiency is None else done.efficiency * factor,
            peak_bytes=None if done.peak_bytes is None else max(0, round(done.peak_bytes + more)),
        )
        for done in golden.resource_noise.rounds
    )
    return replace(golden.resource_noise, rounds=rounds)


def _knows_its_noise(record: Record) -> bool:
    """Whether it was measured when the record was made, or carried over since."""
    measured = record.bit_stability is not None and record.bit_stability.fresh_processes > 0
    return measured and (record.probe is None or record.probe_noise is not None)


def _comparable(golden: Probe | None, measured: Probe | None) -> bool:
    if golden is None or measured is None:
        return golden is measured
    return golden.version == measured.version and golden.points == measured.points
