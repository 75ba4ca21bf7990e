"""What the `esa_baseline` fixture hands out: a baseline's model, its measurement and its check, as pytest is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.check.checking import Checking
from esa_pytest.check.context import CheckContext
from esa_pytest.drift.rules import without_resources
from esa_pytest.errors import EsaError, UnavailableError
from esa_pytest.measuring.shelf import Shelved
from esa_pytest.records import Record, Verdict

if TYPE_CHECKING:
    from esa_pytest.perturbation.guard import Guarded


class GuardedBaseline:
    """A baseline under test: its model, its measurement, and the check against its golden."""

    def __init__(self, baseline: Baseline, context: CheckContext) -> None:
        self.baseline = baseline
        self._context = context
        self._checking = Checking(baseline, context)

    @property
    def id(self) -> str:
        """As `smollm2-135m-smoke`."""
        return self.baseline.id

    @property
    def model(self) -> PreTrainedModel:
        """The loaded model, in evaluation mode on the session's device; shared by all tests of the model."""
        with self._told_to_pytest():
            return self._checking.shelved().model.network

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        with self._told_to_pytest():
            return self._checking.shelved().model.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        with self._told_to_pytest():
            return self._checking.shelved().model.device

    def measure(self) -> Record:
        """Evaluate without judging; fails or skips the test where that is impossible."""
        with self._told_to_pytest():
            return self._checking.measure().record

    def check(self) -> Verdict | None:
        """Evaluate, judge against the golden, report; fails or skips the test where that is the verdict.

        Returns:
            The verdict of a baseline that passed, or None where its golden was recorded.
        """
        self._context.checked.add(self.id)
        with self._told_to_pytest():
            return self._checking.check(self._context.settings.rules).verdict

    def guard(self) -> "Guarded":
        """Check once a loaded model, and hand out what drift is measured from; fails the test as `check` does."""
        with self._told_to_pytest():
            # First the model: the guards of another one go with it.
            shelved = self._checking.shelved()
            known = self._context.guards.get(self.id)
            if known is None:
                known = self._context.guards[self.id] = self._guarded(shelved)
            else:
                self._checking.report.judged_before(known.verdict)
            return known

    def drop_model(self) -> None:
        """Forget the loaded model, which is not what it was; the next test loads it anew."""
        self._context.shelf.clear()

    def _guarded(self, shelved: Shelved) -> "Guarded":
        from esa_pytest.perturbation.guard import guarded_by

        # The documents of a test that asked for all are not replaced by those of one that asks for less.
        self._checking.report = replace(self._checking.report, documents=self.id not in self._context.checked)
        try:
            # A perturbation asks what the model computes, and not how fast.
            checked = self._checking.check(without_resources(self._context.settings.rules))
        except pytest.fail.Exception as failure:
            refusal = str(failure)
        else:
            return guarded_by(
                checked.golden,
                checked.measurement,
                baseline=self.baseline,
                shelved=shelved,
                verdict=checked.verdict,
                rules=without_resources(self._context.settings.rules),
            )
        raise pytest.fail.Exception(f"esa: {self.id} is not perturbed, its own check failed.\n{refusal}", pytrace=False)

    @contextmanager
    def _told_to_pytest(self) -> Iterator[None]:
        """A user's mistake becomes a failure with a sentence and no traceback; unreachable weights become a skip."""
        told: EsaError | None = None
        try:
            yield
        except EsaError as error:
            told = error
        except pytest.fail.Exception as failure:
            if not self._checking.concluded:
                # A time limit that is not ours, or what a test put in the place of a part.
                self._checking.report.unjudged(failure, skipped=False)
            raise
        except Exception as error:
            # A mistake of ours, or a device that broke: pytest shows its traceback.
            self._checking.report.unjudged(error, skipped=False)
            raise
        if told is None:
            return
        skipped = isinstance(told, UnavailableError) and not self._context.settings.strict
        self._checking.report.unjudged(told, skipped=skipped)
        # Outside the except clause, so that pytest shows the sentence and not where it came from.
        if skipped:
            raise pytest.skip.Exception(str(told)) from None
        raise pytest.fail.Exception(f"esa: {self.id} could not be judged. {told}", pytrace=False) from None
