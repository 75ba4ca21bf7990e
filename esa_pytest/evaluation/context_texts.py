"""What is scored beside the documents of a long-context baseline: short windows, and texts with planted facts."""

import hashlib
from dataclasses import dataclass

from esa_pytest.baselines.retrieval import PlantedTexts
from esa_pytest.evaluation.rectangle import Rectangle
from esa_pytest.records import Batch, IntArray


@dataclass(frozen=True, kw_only=True)
class ContextTexts:
    """What is scored beside the documents.

    Attributes:
        short: the last targets of the probe's window once more, with a short context.
        questions: two texts, scored at the questions at their end.
        fact: of each question's token, the fact whose answer it belongs to, or -1; int32, shape (scored,).
        depth: the range of depths of each fact, int32, shape (facts,).
        planted: the text that holds each fact, int32, shape (facts,).
        depths: how many ranges there are.
    """

    short: Rectangle
    questions: Rectangle
    fact: IntArray
    depth: IntArray
    planted: IntArray
    depths: int

    @property
    def num_short(self) -> int:
        """How many targets the short windows score."""
        return int(self.short.targets.size)

    def batches(self, batch_tokens: int) -> tuple[Batch, ...]:
        """Every batch, in order: the short windows, then the texts."""
        return (*self.short.batches(batch_tokens), *self.questions.batches(batch_tokens))

    def sha256(self) -> str:
        """sha256 over every input and target id and the layout of the facts, as little-endian integers."""
        digest = hashlib.sha256()
        for rectangle in (self.short, self.questions):
            digest.update(rectangle.input_ids.astype("<i8").tobytes())
            digest.update(rectangle.targets.astype("<i4").tobytes())
        for array in (self.fact, self.depth, self.planted):
            digest.update(array.astype("<i4").tobytes())
        return digest.hexdigest()


def question_rectangle(texts: PlantedTexts) -> Rectangle:
    """The texts as windows that score the questions at their end; they belong to no stratum of the corpus."""
    targets = texts.ids[:, -texts.num_asked :].astype("int32")
    return Rectangle(input_ids=texts.ids[:, :-1], targets=targets, strata=0 * targets)
