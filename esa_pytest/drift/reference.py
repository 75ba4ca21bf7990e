"""Tier 3: does it mean the same? The float32 reference against its golden, by the model's own measured noise.

The tolerance is four times the largest of what harmless changes moved the probe by when the golden was recorded, for
the root mean square over tokens and for a single token. A drift is traced to the first module, in the order of
execution, whose fingerprint left its own noise: what comes before it computes what it computed.
"""

from dataclasses import replace

import numpy as np

from esa_pytest.drift.rules import DEFAULT_RULES, Rules
from esa_pytest.records import MEASURED, Probe, ProbeNoise, Record, ReferenceDrift

NOISE_FACTOR = 4.0
HEAD = "lm_head"
# A probe whose noise is above this sees no ordinary single weight any more.
WEAK_ABOVE = 1e-4
# Float32 rounding alone: a model may have been lucky under every change that was tried.
_LEAST_RMS = 2.5e-7
_LEAST_FINGERPRINT = 1e-6


def reference_drift(golden: Record, measured: Record, rules: Rules = DEFAULT_RULES) -> ReferenceDrift | None:
    """Compare two probes, None where one is missing or was computed otherwise."""
    old, new, noise = golden.probe, measured.probe, golden.probe_noise
    if old is None or new is None or noise is None or why_no_reference(golden, measured) is not None:
        return None
    drift = new.nll - old.nll
    modules = _module_drifts(old, new, noise)
    # A NaN has moved.
    moved = [name for name, size in modules if not size <= 1]
    widest_rms, rms_source = rules.widened("reference_rms", allowed_rms(noise), MEASURED)
    widest_maximum, maximum_source = rules.widened("reference_maximum", allowed_maximum(noise), MEASURED)
    found = ReferenceDrift(
        num_tokens=int(drift.size),
        rms=float(np.sqrt(np.mean(drift**2))),
        maximum=float(np.abs(drift).max()),
        allowed_rms=widest_rms,
        rms_source=rms_source,
        allowed_maximum=widest_maximum,
        maximum_source=maximum_source,
        weak=noise.rms > WEAK_ABOVE,
        first_moved=moved[0] if moved else None,
        num_moved=len(moved),
        num_points=len(old.points),
        modules=modules,
    )
    return replace(found, first_moved=HEAD) if _is_of_head(found) else found


def allowed_rms(noise: ProbeNoise) -> float:
    """The largest root mean square over tokens that passes, in nats."""
    return NOISE_FACTOR * max(noise.rms, _LEAST_RMS)


def allowed_maximum(noise: ProbeNoise) -> float:
    """The largest absolute drift of one token that passes, in nats."""
    return NOISE_FACTOR * max(noise.maximum, _LEAST_RMS)


def why_no_reference(golden: Record, measured: Record) -> str | None:
    """Why a golden's reference has no say in a run, a clause; None where it has, or where there is none to ask."""
    old, new = golden.probe, measured.probe
    if old is None or golden.probe_noise is None:
        return None
    if new is None:
        return "this run has none to compare with the golden's"
    if old.version != new.version:
        return f"the golden's is computed in version {old.version} and this run's in {new.version}; record it anew"
    if (old.nll.shape, old.fingerprints.shape[1:]) != (new.nll.shape, new.fingerprints.shape[1:]):
        return "the golden's is of other tokens, or of fingerprints of another size; record it anew"
    return None


def how_far(found: ReferenceDrift) -> str:
    """The drift that is beyond its bound, or else that of all tokens, as a clause."""
    if found.rms <= found.allowed_rms and not found.within:
        return f"{found.maximum:.2g} nats at one token, allowed is {found.allowed_maximum:.2g}"
    return f"{found.rms:.2g} nats rms a token, allowed is {found.allowed_rms:.2g}"


def _is_of_head(found: ReferenceDrift) -> bool:
    """Whether the head alone is left: NLLs moved for certain, and every module before it by no more than its noise."""
    unmoved = len(found.modules) == found.num_points and all(size * NOISE_FACTOR <= 1 for _, size in found.modules)
    return unmoved and found.rms > 2 * found.allowed_rms


def _module_drifts(old: Probe, new: Probe, noise: ProbeNoise) -> tuple[tuple[str, float], ...]:
    """The drift of every module's fingerprint over what its noise allows, in the order of execution."""
    rows = dict(zip(new.points, new.fingerprints, strict=True))
    allowed = NOISE_FACTOR * np.maximum(noise.fingerprints, _LEAST_FINGERPRINT)
    return tuple(
        (name, float(np.abs(rows[name] - before).max() / bound))
        for name, before, bound in zip(old.points, old.fingerprints, allowed, strict=True)
        # A module that another release of transformers calls otherwise cannot be compared.
        if name in rows
    )
