"""From a corpus to the tokens the model is meant to see."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from esa_pytest.baselines.corpus import Corpus
from esa_pytest.baselines.sources import BosPolicy, ModelSource, RandomModel
from esa_pytest.errors import TokenizationError, TokenizerMismatchError
from esa_pytest.evaluation.quiet import quiet_transformers

# Between documents, as between paragraphs.
SEPARATOR = "\n\n"
# Running text in a tokenizer's own languages gives no unknown token at all, and all of it comes back.
MOST_UNKNOWN = 0.01
MOST_LOST = 0.01
_ROUND_TRIP_CHARACTERS = 65_536


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """A corpus as one sequence of tokens.

    Attributes:
        ids: int64, shape (tokens,); never holds a BOS.
        stratum: int32, shape (tokens,); index into `strata`.
        strata: names, in the order in which they first occur.
        bos_id: the token put in front of every window, or None.
        characters_a_token: how many characters of the text one token stands for, on average.
    """

    ids: npt.NDArray[np.int64]
    stratum: npt.NDArray[np.int32]
    strata: tuple[str, ...]
    bos_id: int | None
    characters_a_token: float


def tokenize(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, bos: BosPolicy) -> TokenStream:
    """Tokenise document by document, so that each token belongs to one stratum; nothing is added by the tokenizer.

    Raises:
        TokenizationError: a BOS is asked for and the tokenizer has none, or the text would give a second one.
    """
    strata = tuple(dict.fromkeys(document.stratum for document in corpus.documents))
    pieces: list[npt.NDArray[np.int64]] = []
    labels: list[npt.NDArray[np.int32]] = []
    with quiet_transformers():
        for document in corpus.documents:
            ids = tokenizer(document.text + SEPARATOR, add_special_tokens=False)["input_ids"]
            pieces.append(np.asarray(ids, dtype=np.int64))
            labels.append(np.full(len(ids), strata.index(document.stratum), dtype=np.int32))
    ids, stratum = np.concatenate(pieces), np.concatenate(labels)
    characters = sum(len(document.text) + len(SEPARATOR) for document in corpus.documents)
    characters_a_token = characters / max(len(ids), 1)
    if corpus.repeat_to_tokens is not None:
        times = -(-corpus.repeat_to_tokens // len(ids))
        ids, stratum = np.tile(ids, times), np.tile(stratum, times)
    bos_id = _bos_id(tokenizer) if bos == "window" else None
    _refuse_double_bos(corpus, ids, tokenizer.bos_token_id if bos_id is None else bos_id, in_front=bos_id is not None)
    return TokenStream(ids=ids, stratum=stratum, strata=strata, bos_id=bos_id, characters_a_token=characters_a_token)


def refuse_mismatch(
    corpus: Corpus, stream: TokenStream, tokenizer: PreTrainedTokenizerBase, *, embeddings: int | None
) -> None:
    """Check that tokenizer, text and model belong together.

    Args:
        corpus: the text.
        stream: its tokens.
        tokenizer: what made them.
        embeddings: how many tokens the model knows; None where nobody can say.

    Raises:
        TokenizerMismatchError: it gives tokens that the model does not know, too many unknown ones, or loses text.
    """
    largest = max(int(stream.ids.max()), stream.bos_id or 0)
    if embeddings is not None and largest >= embeddings:
        raise TokenizerMismatchError(
            f"The tokenizer does not fit the model: it gives the token {largest} for the corpus {corpus.name!r} and "
            f"the model has {embeddings} embeddings; use the tokenizer that the model was trained with."
        )
    unknown = tokenizer.unk_token_id
    share = 0.0 if unknown is None else float(np.mean(stream.ids == unknown))
    if share > MOST_UNKNOWN:
        raise TokenizerMismatchError(
            f"The tokenizer does not fit the corpus {corpus.name!r}: {share:.2%} of its tokens are "
            f"{tokenizer.unk_token!r}, allowed are {MOST_UNKNOWN:.0%}; use another corpus, or the model's tokenizer."
        )
    if (lost := _share_lost(corpus, tokenizer)) > MOST_LOST:
        raise TokenizerMismatchError(
            f"The tokenizer does not fit the corpus {corpus.name!r}: {lost:.2%} of its characters do not come back "
            f"when it is encoded and decoded, allowed are {MOST_LOST:.0%}; use the model's own tokenizer."
        )


def bos_notes(tokenizer: PreTrainedTokenizerBase, model: ModelSource) -> list[str]:
    """A note where the tokenizer would begin a text with its BOS, and nobody has said whether the windows need it.

    Some models give any number at all without the BOS that they were trained with. Of random weights nothing is asked.
    """
    if "bos" in model.model_fields_set or isinstance(model, RandomModel) or tokenizer.bos_token_id is None:
        return []
    with quiet_transformers():
        begins_with = tokenizer("a")["input_ids"][:1]
    if begins_with != [tokenizer.bos_token_id]:
        return []
    note = (
        f"The tokenizer begins a text with its BOS {tokenizer.bos_token!r}, and the windows have none, so the loss of "
        f'a model that was trained with one says nothing; set bos = "window" in the model\'s entry, or bos = "none" if '
        f"it was trained without."
    )
    return [note]


def _share_lost(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> float:
    """The share of characters, blanks aside, that encoding and decoding loses, over the beginnings of documents."""
    sample = _ROUND_TRIP_CHARACTERS // len(corpus.documents) + 1
    total = lost = 0
    with quiet_transformers():
        for document in corpus.documents:
            text = document.text[:sample]
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            before, after = (Counter("".join(either.split())) for either in (text, back))
            total += before.total()
            lost += (before - after).total()
    return lost / max(total, 1)


def _bos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.bos_token_id is None:
        raise TokenizationError(
            'The model\'s BOS policy is "window" and its tokenizer has no BOS token; '
            'an EOS is no substitute, so set bos = "none" or give the tokenizer its BOS.'
        )
    return int(tokenizer.bos_token_id)


def _refuse_double_bos(corpus: Corpus, ids: npt.NDArray[np.int64], bos_id: int | None, *, in_front: bool) -> None:
    """A BOS may come from the policy or from the text, once: a model that sees two answers otherwise."""
    if bos_id is None:
        return
    found = np.flatnonzero(ids == bos_id)
    if in_front and found.size:
        raise TokenizationError(
            f"The corpus {corpus.name!r} would give a double BOS: token {bos_id} stands at {found[0]} of its tokens "
            f'and the BOS policy "window" puts another in front; remove it from the text, or set bos = "none".'
        )
    doubled = found[:-1][np.diff(found) == 1]
    if doubled.size:
        raise TokenizationError(
            f"The corpus {corpus.name!r} has a double BOS: token {bos_id} stands at {doubled[0]} and "
            f"{doubled[0] + 1} of its tokens; remove one from the text."
        )
