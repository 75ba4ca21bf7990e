"""The guard: a model is perturbed only after its own baseline has passed, in this process, on these very weights."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.drift.judge import judge, needs_reference
from esa_pytest.drift.rules import Rules, without_resources
from esa_pytest.errors import GoldenMissingError, GuardError
from esa_pytest.evaluation.evaluate import Round, evaluate
from esa_pytest.evaluation.loading import LoadedModel, device_class, dtype_of
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.provenance import provenance
from esa_pytest.measuring.measurement import Measurement, measure
from esa_pytest.measuring.probing import probed
from esa_pytest.measuring.shelf import ModelShelf, Shelved
from esa_pytest.perturbation.checksums import checksums_of
from esa_pytest.perturbation.reversible import perturbed_names
from esa_pytest.records import BlockScores, Noise, Outcome, Record, TokenScores, Verdict
from esa_pytest.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A model whose baseline has passed, and what a perturbation's drift is measured from.

    Attributes:
        baseline: what was checked.
        shelved: its loaded model.
        prepared: what is scored, in the batches that fitted.
        clean: the unperturbed run of this process, with the float32 reference and the noise that the golden measured.
            An unperturbed run has no drift from it at all, whatever the golden's environment was.
        verdict: what the check said; None where the golden was recorded by it.
        rules: how strictly it judged.
        golden_utc: when the golden was recorded.
        checksums: of the weights that passed, by name.
    """

    baseline: Baseline
    shelved: Shelved
    prepared: Prepared
    clean: Record
    verdict: Verdict | None
    rules: Rules
    golden_utc: str
    checksums: Mapping[str, int]

    @property
    def model(self) -> LoadedModel:
        """The loaded model."""
        return self.shelved.model

    def evaluate(self, description: str, prepared: Prepared | None = None) -> Round:
        """One evaluation of the weights as they are now, as the check evaluates them.

        Args:
            description: what the progress bar says.
            prepared: what is scored, where that is to be another part or batch than the check's.
        """
        return evaluate(
            self.model,
            self.prepared if prepared is None else prepared,
            seed=self.baseline.type.seeds[0],
            description=description,
            probabilities=self.baseline.type.calibration,
        )


def guarded_by(
    golden: Record,
    measurement: Measurement,
    *,
    baseline: Baseline,
    shelved: Shelved,
    verdict: Verdict | None,
    rules: Rules,
) -> Guarded:
    """What a check that passed guards.

    Args:
        golden: what it was judged by.
        measurement: this process's run.
        baseline: what was checked.
        shelved: its loaded model.
        verdict: of the check.
        rules: of the check.
    """
    run = probed(measurement, shelved.model).record
    # Noise is that of other windows where the golden is of another device.
    elsewhere = verdict is not None and verdict.outcome is Outcome.REFERENCE_ONLY
    return Guarded(
        baseline=baseline,
        shelved=shelved,
        prepared=measurement.prepared,
        clean=replace(
            run,
            noise=None if elsewhere or golden.noise is None else _from_here(golden.noise, run.scores),
            # Not asked of a perturbation, and yet of the family that shares the rate of false alarms.
            resource_noise=None if elsewhere else golden.resource_noise,
            probe_noise=None if run.probe is None else golden.probe_noise,
            bit_stability=golden.bit_stability,
        ),
        verdict=verdict,
        rules=rules,
        golden_utc=str(golden.provenance.get("utc")),
        checksums=checksums_of(shelved.model.network),
    )


def refuse_changed(guarded: Guarded, *, if_broken: Callable[[], None]) -> None:
    """Refuse weights that are not those that passed the check, save what blocks around have perturbed.

    Args:
        guarded: the model, and what it was.
        if_broken: called before the error is raised.

    Raises:
        GuardError: a weight has other bits, or is gone, or is new.
    """
    network = guarded.model.network
    perturbed = perturbed_names(network)
    now = checksums_of(network, leaving_out=perturbed)
    before = {name: checksum for name, checksum in guarded.checksums.items() if name not in perturbed}
    changed = next((name for name in {**before, **now} if before.get(name) != now.get(name)), None)
    if changed is not None:
        if_broken()
        raise GuardError(
            f"{changed} is not what it was when {guarded.baseline.id} passed its check: something has changed it "
            f"since, and drift would be of that too; let whoever changes weights put them back, as esa_perturb does, "
            f"and load the model anew before it is used."
        )


def _from_here(noise: Noise, scores: TokenScores | BlockScores) -> Noise:
    """The noise around this process's scores: where it has other bits than the golden, these are no drift."""
    if not isinstance(scores, TokenScores):
        return noise
    return replace(noise, nll=scores.nll[np.isin(scores.window, noise.windows)])


def guard(baseline: Baseline, settings: Settings, shelf: ModelShelf) -> Guarded:
    """Check a baseline outside of a test.

    Args:
        baseline: what to check.
        settings: where its golden lies, and how strictly it is judged.
        shelf: keeps the model.

    Raises:
        GoldenMissingError: there is no golden to check by.
        GuardError: the check failed.
        EsaError: whatever else keeps the baseline from being judged.
    """
    shelved, rules = shelf.get(baseline), without_resources(settings.rules)
    location = GoldenLocation(
        root=settings.golden_dir,
        folder=baseline.folder,
        device=device_class(shelved.model.device),
        dtype=dtype_of(shelved.model.network),
    )
    golden = read_golden(location)
    if golden is None:
        raise GoldenMissingError(
            f"There is no golden {location.json} to guard {baseline.id} by; record one with: pytest -m "
            f"{baseline.type_name} --snapshot-update"
        )
    measurement = measure(
        baseline,
        shelved,
        rounds=1,
        benchmark=None,
        provenance=provenance(settings.root, reason=settings.reason),
        limit=lambda _phase: nullcontext(),
    )
    verdict = judge(golden, measurement.record, rules)
    if needs_reference(verdict) and golden.probe is not None:
        measurement = probed(measurement, shelved.model)
        verdict = judge(golden, measurement.record, rules)
    if not verdict.outcome.passed:
        raise GuardError(
            f"{baseline.id} is {verdict.outcome} before anything was perturbed ({verdict.reason}); run its check "
            f"(pytest -m {baseline.type_name}), and perturb once it passes."
        )
    return guarded_by(golden, measurement, baseline=baseline, shelved=shelved, verdict=verdict, rules=rules)
