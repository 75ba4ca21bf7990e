"""From a corpus to the tokens the model is meant to see."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from esa_pytest.baselines.catalog import BosPolicy
from esa_pytest.baselines.corpus import Corpus
from esa_pytest.errors import TokenizationError
from esa_pytest.evaluation.quiet import quiet_transformers

# Between documents, as between paragraphs.
SEPARATOR = "\n\n"


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """A corpus as one sequence of tokens.

    Attributes:
        ids: int64, shape (tokens,); never holds a BOS.
        stratum: int32, shape (tokens,); index into `strata`.
        strata: names, in the order in which they first occur.
        bos_id: the token put in front of every window, or None.
    """

    ids: npt.NDArray[np.int64]
    stratum: npt.NDArray[np.int32]
    strata: tuple[str, ...]
    bos_id: int | None


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
    if corpus.repeat_to_tokens is not None:
        times = -(-corpus.repeat_to_tokens // len(ids))
        ids, stratum = np.tile(ids, times), np.tile(stratum, times)
    bos_id = _bos_id(tokenizer) if bos == "window" else None
    _refuse_double_bos(corpus, ids, tokenizer.bos_token_id if bos_id is None else bos_id, in_front=bos_id is not None)
    return TokenStream(ids=ids, stratum=stratum, strata=strata, bos_id=bos_id)


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
