"""A guarded model on which one perturbation after the other is tried, forward passes shared where they can be."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch

from esa_pytest.errors import GuardError
from esa_pytest.evaluation.capacity import available_bytes
from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.reference import probe
from esa_pytest.perturbation.guard import Guarded
from esa_pytest.perturbation.reversible import Applied, Perturbed
from esa_pytest.perturbation.run import Drift, drift_of, perturbed_record
from esa_pytest.records import Probe, TokenScores
from esa_pytest.sensitivity.plans import Trial
from esa_pytest.sensitivity.stream import ResidualStream, first_layer_reached, stream_bytes

# A recorded residual stream may take this share of the memory that is free.
_STREAM_SHARE = 0.25


class Bench:
    """A guarded model on which trials are run, forward passes shared where a perturbation cannot have changed them."""

    def __init__(self, guarded: Guarded, *, shared: bool = True, if_broken: Callable[[], None] = lambda: None) -> None:
        """Evaluates the clean model once more, and records its residual stream on the way.

        Not recorded is what is too large, or of windows that are scored in chunks.

        Args:
            guarded: the model; it is as it was afterwards.
            shared: whether layers in front of a perturbed one are left out; otherwise each trial is evaluated whole.
            if_broken: called where the model is not what it was, before the error is raised.

        Raises:
            GuardError: the model computes other bits than when it passed its check.
        """
        self._guarded = guarded
        self._if_broken = if_broken
        network, prepared = guarded.model.network, guarded.prepared
        scored = sum(rectangle.input_ids.size for rectangle in prepared.rectangles)
        needed = stream_bytes(network, scored, torch.bfloat16)
        needed += stream_bytes(network, prepared.probe_ids.size, torch.float32)
        # A chunk's states depend on those in front of it, its place on a cache that left-out layers do not fill.
        whole = prepared.chunk_tokens is None
        self.shared = shared and whole and needed <= _STREAM_SHARE * available_bytes(guarded.model.device)
        self._rounded, self._reference = ResidualStream(network), ResidualStream(network)
        with self._rounded.recording() if self.shared else nullcontext():
            self._refuse_other_bits(guarded.evaluate("clean"))
        if self.shared:
            with self._reference.recording():
                self._probe()

    def drift(self, trial: Trial) -> tuple[tuple[Applied, ...], Drift]:
        """Perturb, evaluate, restore.

        Raises:
            PerturbationError: a parameter or place does not exist.
            RestorationError: the weights are not what they were.
        """
        network, clean = self._guarded.model.network, self._guarded.clean
        ran = () if clean.probe is None else clean.probe.points
        first = first_layer_reached(network, [each.parameter for each in trial.perturbations], ran=ran)
        with Perturbed(network, trial.perturbations, if_broken=self._if_broken) as perturbed:
            with self._from(self._rounded, first):
                done = self._guarded.evaluate(trial.label)
            reference = None
            if done.non_finite is None and clean.probe is not None:
                with self._from(self._reference, first):
                    reference = self._probe()
        if reference is not None:
            reference = _with_skipped_points(reference, clean.probe)
        record = perturbed_record(self._guarded, done, reference, label=trial.label)
        return perturbed.applied, drift_of(self._guarded, record)

    def _refuse_other_bits(self, done: Round) -> None:
        """Weights that are the same do not tell of a hook that was left."""
        clean = self._guarded.clean.scores
        assert isinstance(clean, TokenScores)  # noqa: S101  (a run has them; sums of blocks are a golden's)
        if bits_of(done.scores) == bits_of(clean):
            return
        self._if_broken()
        raise GuardError(
            f"{self._guarded.baseline.id} computes other bits than when it passed its check: something has changed the "
            f"model since, and drift would be of that too; let whoever changes a model put it back, and load it anew "
            f"before it is used."
        )

    @contextmanager
    def _from(self, stream: ResidualStream, first: int) -> Iterator[None]:
        with stream.from_layer(first) if self.shared else nullcontext():
            yield

    def _probe(self) -> Probe | None:
        if self._guarded.clean.probe is None:
            return None
        return probe(self._guarded.model, self._guarded.prepared)


def _with_skipped_points(reference: Probe, clean: Probe | None) -> Probe:
    """The fingerprints of modules that were left out are those of the clean model, whose output they would give."""
    if clean is None or len(reference.points) == len(clean.points):
        return reference
    found = dict(zip(reference.points, reference.fingerprints, strict=True))
    prints = [found.get(name, before) for name, before in zip(clean.points, clean.fingerprints, strict=True)]
    return replace(reference, points=clean.points, fingerprints=np.stack(prints))
