"""Two long texts in which facts are planted, and questions for all of them at the end of both.

Each text holds half of the facts, evenly spread; in the same place the other text holds another one:

    0   ... The code of the red door is 74815. ...   The code of the blue box is 20663. ... of the red door is 74815.
    1   ... The code of the blue box is 20663. ...   The code of the blue box is 20663. ... of the red door is 74815.

The end is the same in both, so that every answer is scored at the same place twice: with its fact in the text, and with
another fact instead. Nothing is sampled; the NLL of the answer says whether the model finds it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esa_pytest.baselines.context_plan import COLOURS, NUM_TEXTS, THINGS
from esa_pytest.records import IntArray

# Facts and questions take this share of a window at most; the rest is running text.
_MOST_SHARE = 0.5
_CODE_DIGITS = 5

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact in tokens: what says of what the code is, the code, and the end of the sentence; the text begins it."""

    subject: Ids
    answer: Ids
    stop: Ids

    @property
    def sentence(self) -> Ids:
        """The whole of it."""
        return np.concatenate([self.subject, self.answer, self.stop])


@dataclass(frozen=True, kw_only=True)
class PlantedTexts:
    """The two texts and what is asked at their end.

    Attributes:
        ids: int64, shape (2, tokens), a BOS in front where there is one.
        num_asked: how many tokens at the end are the questions, in which both are equal.
        fact: of each of these, the fact whose answer it belongs to, or -1; int32, shape (num_asked,).
        depth: the range of depths of each fact, int32, shape (facts,).
        planted: the text that holds each fact, int32, shape (facts,).
    """

    ids: Ids
    num_asked: int
    fact: IntArray
    depth: IntArray
    planted: IntArray


def make_facts(number: int, *, seed: int, tokenize: Callable[[str], Ids]) -> list[Fact]:
    """So many facts about different things, with different codes, chosen by hashes of a seed.

    Args:
        number: how many; at most as many as there are things in all colours.
        seed: of the choice.
        tokenize: a piece of text in tokens, without anything added.
    """
    things = sorted(
        ((colour, thing) for colour in COLOURS for thing in THINGS),
        key=lambda pair: _number(f"{seed}:{pair[0]} {pair[1]}"),
    )
    codes = list(dict.fromkeys(_code(f"{seed}:code {index}") for index in range(2 * number)))
    stop = tokenize(".")
    return [
        Fact(subject=tokenize(f" The code of the {colour} {thing} is"), answer=tokenize(f" {code}"), stop=stop)
        for (colour, thing), code in zip(things[:number], codes, strict=False)
    ]


def facts_that_fit(facts: Sequence[Fact], *, num_tokens: int, depths: int) -> int:
    """How many facts a range of depths can hold in each text, so that half of the window is running text; maybe none.

    Args:
        facts: as many as are wanted, for both texts.
        num_tokens: of the window.
        depths: how many ranges.
    """
    longest = max(fact.sentence.size for fact in facts)
    # Each is planted once in its text, and asked for in both.
    room = int(num_tokens * _MOST_SHARE) // (longest * (1 + NUM_TEXTS))
    return min(len(facts) // NUM_TEXTS, room) // depths


def plant(
    facts: Sequence[Fact], running: Ids, *, num_tokens: int, depths: int, seed: int, bos: int | None
) -> PlantedTexts:
    """Lay out both texts.

    Args:
        facts: an equal number for each range of depths and text; the first half is planted in text 0.
        running: the text around them; as many tokens as the window has are enough.
        num_tokens: of each text, a BOS counted.
        depths: how many ranges.
        seed: of the order in which is asked.
        bos: the token in front of each text, or None.
    """
    each = len(facts) // NUM_TEXTS
    order = sorted(range(len(facts)), key=lambda index: _number(f"{seed}:ask {index}"))
    asked = np.concatenate([facts[index].sentence for index in order])
    front = np.array([] if bos is None else [bos], dtype=np.int64)
    texts = []
    for text in range(NUM_TEXTS):
        planted = [fact.sentence for fact in facts[text * each : (text + 1) * each]]
        room = num_tokens - front.size - asked.size - sum(sentence.size for sentence in planted)
        # A stretch in front of each fact, and one behind the last.
        stretches = np.array_split(running[:room], each + 1)
        pieces = [piece for pair in zip(stretches, [*planted, asked], strict=True) for piece in pair]
        texts.append(np.concatenate([front, *pieces]))
    return PlantedTexts(
        ids=np.stack(texts),
        num_asked=asked.size,
        fact=np.concatenate([_answer_of(facts[index], index) for index in order]),
        depth=np.tile(np.arange(each) * depths // each, NUM_TEXTS).astype(np.int32),
        planted=np.repeat(np.arange(NUM_TEXTS), each).astype(np.int32),
    )


def depth_label(depth: int, *, depths: int) -> str:
    """A range of depths as people read it, as `20-40%`."""
    return f"{round(100 * depth / depths)}-{round(100 * (depth + 1) / depths)}%"


def _answer_of(fact: Fact, index: int) -> IntArray:
    """Which tokens of a sentence are the answer: its index there, and -1 elsewhere."""
    sizes = (fact.subject.size, fact.answer.size, fact.stop.size)
    return np.repeat(np.array([-1, index, -1], dtype=np.int32), sizes)


def _code(text: str) -> str:
    return str(_number(text) % 10**_CODE_DIGITS).zfill(_CODE_DIGITS)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
