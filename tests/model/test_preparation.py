"""What will be scored is fixed by text, seed and sizes, and by nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.sources import FileCorpus, FolderModel
from esa_pytest.baselines.windows import full_windows
from esa_pytest.errors import CorpusError, EsaWarning, SettingError
from esa_pytest.evaluation.byte_tokenizer import BOS_ID
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import load_tokenizer
from esa_pytest.evaluation.preparation import ModelLimits, prepare
from esa_pytest.evaluation.prepared import Prepared
from esa_pytest.evaluation.rectangle import micro_batch_size
from tests.model.tiny import running_text, tiny_baseline, write_corpus

NO_LIMITS = ModelLimits()


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def tokenizer(llama_checkpoint: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(llama_checkpoint)


def _prepared(baseline: Baseline, tokenizer: PreTrainedTokenizerBase, *, limits: ModelLimits = NO_LIMITS) -> Prepared:
    return prepare(baseline, tokenizer, device_type="cpu", limits=limits, hub=Hub())


def test_a_corpus_that_is_too_short_is_refused_with_its_numbers(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path, running_text(126))
    with pytest.raises(CorpusError) as caught:
        _prepared(tiny_baseline(tmp_path, corpus), tokenizer)
    assert str(caught.value) == (
        "The corpora are too short: 'tiny' of 128 tokens give 96 tokens to score and the baseline asks for 128; "
        "give longer texts, or lower scored_tokens of the baseline type."
    )


def test_a_corpus_that_is_just_long_enough_is_scored_to_its_end(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path, running_text(127))
    prepared = _prepared(tiny_baseline(tmp_path, corpus), tokenizer)
    targets = [token for batch in prepared.batches for token in batch.targets.flatten().tolist()]
    assert tokenizer.decode(targets) == running_text(127)[1:] + "\n\n"


@pytest.mark.parametrize("name", ["scored_tokens", "batch_tokens"])
def test_a_type_without_a_size_for_the_device_is_refused(
    name: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {name: {"cuda": 128}}
    baseline = tiny_baseline(tmp_path, write_corpus(tmp_path), **sizes)
    with pytest.raises(SettingError) as caught:
        _prepared(baseline, tokenizer)
    assert str(caught.value) == (
        f"The baseline type tiny gives {name} for cuda and none for cpu; add it in [tool.esa.types.tiny]."
    )


def test_a_degenerate_corpus_warns_with_its_number(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, (running_text(198) + "\n\n") * 5)
    with pytest.warns(EsaWarning) as caught:
        prepared = _prepared(tiny_baseline(tmp_path, corpus), tokenizer)
    (note,) = prepared.notes
    assert [str(warning.message) for warning in caught] == [note]
    share = 1 - _distinct_ngrams((running_text(198) + "\n\n") * 5 + "\n\n", 32) / (1002 - 31)
    assert note == (
        f"The corpus 'tiny' is degenerate: {share:.1%} of its 32-grams are repetitions (running text: under 2 %), "
        f"so its loss says little about the model."
    )
    assert share > 0.7


def _distinct_ngrams(text: str, length: int) -> int:
    return len({text[begin : begin + length] for begin in range(len(text) - length + 1)})


def test_running_text_gives_no_note(tokenizer: PreTrainedTokenizerBase, corpus: Path) -> None:
    assert _prepared(tiny_baseline(corpus.parent, corpus), tokenizer).notes == ()


def test_a_bos_that_nobody_spoke_of_is_among_the_notes(tokenizer: PreTrainedTokenizerBase, corpus: Path) -> None:
    baseline = tiny_baseline(corpus.parent, corpus)
    unspoken = baseline.model_copy(update={"model": FolderModel(path=corpus.parent)})
    (note,) = _prepared(unspoken, tokenizer).notes
    assert note.startswith("The tokenizer begins a text with its BOS '<bos>', and the windows have none")


def test_the_strata_of_all_corpora_have_one_numbering(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    texts = {"b-and-a": ("b", "a"), "a-and-c": ("a", "c")}
    sources = {}
    for seed, (name, strata) in enumerate(texts.items()):
        path = tmp_path / f"{name}.jsonl"
        halves = (running_text(63, seed=2 * seed), running_text(62, seed=2 * seed + 1))
        path.write_text(
            "\n".join(f'{{"stratum": "{s}", "text": "{t}"}}' for s, t in zip(strata, halves, strict=True)),
            encoding="utf-8",
        )
        sources[name] = FileCorpus(path=path)
    baseline = tiny_baseline(tmp_path, tmp_path, corpora=tuple(texts), scored_tokens={"cpu": 256})
    baseline = baseline.model_copy(update={"corpora": sources})
    prepared = _prepared(baseline, tokenizer)
    assert prepared.strata == ("b", "a", "c")
    labels = np.concatenate([batch.strata.flatten() for batch in prepared.batches])
    assert [prepared.strata[index] for index in labels] == ["b"] * 64 + ["a"] * 64 + ["a"] * 64 + ["c"] * 64


def test_segments_come_by_context_length_then_seed_and_share_the_tokens(
    tokenizer: PreTrainedTokenizerBase, corpus: Path
) -> None:
    baseline = tiny_baseline(corpus.parent, corpus, context_lengths=(32, 16), seeds=(5, 3))
    segments = _prepared(baseline, tokenizer).segments
    assert [(s.context_length, s.seed) for s in segments] == [(32, 5), (32, 3), (16, 5), (16, 3)]
    assert [sum(window.num_scored for window in segment.windows) for segment in segments] == [32] * 4


def test_one_changed_letter_in_a_window_changes_the_tokens_and_not_the_windows(
    tokenizer: PreTrainedTokenizerBase, corpus: Path
) -> None:
    baseline = tiny_baseline(corpus.parent, corpus)
    before = _prepared(baseline, tokenizer)
    _replace_letter(corpus, before.segments[0].windows[2].score_end - 1)
    after = _prepared(baseline, tokenizer)
    assert after.tokens_sha256() != before.tokens_sha256()
    assert after.corpora_sha256 != before.corpora_sha256
    assert after.windows_identity() == before.windows_identity()


def test_one_changed_letter_in_no_window_changes_the_corpus_alone(
    tokenizer: PreTrainedTokenizerBase, corpus: Path
) -> None:
    baseline = tiny_baseline(corpus.parent, corpus)
    before = _prepared(baseline, tokenizer)
    seen = {at for window in before.segments[0].windows for at in range(window.context_begin, window.score_end)}
    _replace_letter(corpus, next(at for at in range(1000) if at not in seen))
    after = _prepared(baseline, tokenizer)
    assert after.tokens_sha256() == before.tokens_sha256()
    assert after.corpora_sha256 != before.corpora_sha256


def _replace_letter(corpus: Path, at: int) -> None:
    text = corpus.read_text(encoding="utf-8")
    corpus.write_text(text[:at] + "#" + text[at + 1 :], encoding="utf-8")


@pytest.mark.parametrize("change", [{"seeds": (1338,)}, {"context_lengths": (31,)}, {"stride": 16}])
def test_another_seed_context_or_stride_makes_other_windows_and_tokens(
    change: dict[str, Any], tokenizer: PreTrainedTokenizerBase, corpus: Path
) -> None:
    before = _prepared(tiny_baseline(corpus.parent, corpus), tokenizer)
    after = _prepared(tiny_baseline(corpus.parent, corpus, **change), tokenizer)
    assert after.windows_identity() != before.windows_identity()
    assert after.tokens_sha256() != before.tokens_sha256()
    assert after.corpora_sha256 == before.corpora_sha256


def test_another_micro_batch_changes_nothing_that_identifies(tokenizer: PreTrainedTokenizerBase, corpus: Path) -> None:
    before = _prepared(tiny_baseline(corpus.parent, corpus), tokenizer)
    after = _prepared(tiny_baseline(corpus.parent, corpus, batch_tokens={"cpu": 32, "cuda": 32}), tokenizer)
    assert [len(prepared.batches) for prepared in (before, after)] == [2, 4]
    assert after.windows_identity() == before.windows_identity()
    assert after.tokens_sha256() == before.tokens_sha256()


@given(
    num_windows=st.integers(1, 200),
    context_length=st.integers(2, 5000),
    batch_tokens=st.integers(1, 200_000),
)
def test_a_micro_batch_is_the_largest_that_fits_and_half_of_the_windows_at_most(
    num_windows: int, context_length: int, batch_tokens: int
) -> None:
    def fits(size: int) -> bool:
        return size * context_length <= batch_tokens and 2 * size <= num_windows + 1

    size = micro_batch_size(num_windows=num_windows, context_length=context_length, batch_tokens=batch_tokens)
    assert size == max((candidate for candidate in range(1, num_windows + 1) if fits(candidate)), default=1)


@given(length=st.integers(20, 200), stride=st.integers(1, 8), batch_tokens=st.integers(1, 240), bos=st.booleans())
def test_batches_of_any_size_hold_the_same_windows(
    length: int, stride: int, batch_tokens: int, *, bos: bool, tokenizer: PreTrainedTokenizerBase, shared_folder: Path
) -> None:
    corpus = write_corpus(shared_folder, running_text(length))
    ids = np.array(tokenizer(running_text(length) + "\n\n", add_special_tokens=False)["input_ids"])
    windows = full_windows(length=len(ids), context_length=8, stride=stride, bos=bos)
    sizes = {"cpu": len(windows) * stride}
    baseline = tiny_baseline(
        shared_folder,
        corpus,
        bos="window" if bos else "none",
        context_lengths=(8,),
        stride=stride,
        scored_tokens=sizes,
        batch_tokens={"cpu": batch_tokens},
    )
    batches = _prepared(baseline, tokenizer).batches
    size = micro_batch_size(num_windows=len(windows), context_length=8, batch_tokens=batch_tokens)
    assert [len(batch.input_ids) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    inputs = np.concatenate([batch.input_ids for batch in batches])
    targets = np.concatenate([batch.targets for batch in batches])
    assert (len(inputs), inputs.shape[1]) == (len(windows), 8)
    assert targets.tolist() == [ids[w.score_begin : w.score_end].tolist() for w in windows]
    # Each target's predecessor stands where it is predicted from, or a BOS where there is none.
    with_bos = np.concatenate([[BOS_ID], ids]) if bos else ids
    first = [w.score_begin - 1 + bos for w in windows]
    before = np.stack([with_bos[begin : begin + stride] for begin in first])
    expected = np.where(np.arange(8 - stride, 8)[None] == 0, BOS_ID, before) if bos else before
    assert inputs[:, -stride:].tolist() == expected.tolist()
