"""What cannot be judged here is a skip with its sentence, and a failure with the same sentence under --esa-strict."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from esa_pytest.evaluation.byte_tokenizer import write_byte_tokenizer
from esa_pytest.exit_status import Status
from tests.model.tiny import build_network
from tests.plugin.conftest import OF_THE_HUB, Project

SILENT = "the hub https://hub.invalid does not answer within 2 s"
Cause = Callable[[Project, pytest.MonkeyPatch], None]


class FakeApi:
    """The answer of a hub for one repository."""

    gated: str | bool = False
    files: tuple[str, ...] = ("model.safetensors", "config.json")
    refusal: Exception | None = None

    def model_info(self, repo: str, **_: object) -> SimpleNamespace:
        if self.refusal is not None:
            raise self.refusal
        return SimpleNamespace(gated=self.gated, siblings=[SimpleNamespace(rfilename=name) for name in self.files])


def on_the_hub(project: Project, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """Make the project's model one of the hub, which answers so."""
    project.add(f'path = "{project.checkpoint}"', OF_THE_HUB)
    monkeypatch.setattr("esa_pytest.evaluation.hub.cached_snapshot", lambda _: None)
    monkeypatch.setattr("esa_pytest.evaluation.hub._why_unreachable", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(huggingface_hub, "HfApi", type("Api", (FakeApi,), answers))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


def gated(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_hub(project, monkeypatch, gated="manual")


def unreachable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_hub(project, monkeypatch)
    monkeypatch.setattr("esa_pytest.evaluation.hub._why_unreachable", lambda: SILENT)


def without_revision(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its constructor wants a response of the client below, which differs between releases.
    refusal = errors.RevisionNotFoundError.__new__(errors.RevisionNotFoundError)
    on_the_hub(project, monkeypatch, refusal=refusal)


def pickled(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_hub(project, monkeypatch, files=("config.json", "pytorch_model.bin"))


def foreign_code(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_hub(project, monkeypatch)
    config = project.pytester.path / "config.json"
    config.write_text(json.dumps({"model_type": "unheard-of", "auto_map": {"AutoModel": "modeling.py"}}))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(config))


def another_checkpoint(project: Project, **changes: Any) -> Path:
    folder = project.pytester.path / "checkpoint"
    build_network("llama", **changes).save_pretrained(folder)
    write_byte_tokenizer(folder)
    project.add(str(project.checkpoint), str(folder))
    return folder


def too_few_embeddings(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    another_checkpoint(project, vocab_size=100, bos_token_id=0, eos_token_id=1, pad_token_id=1)


def unknown_tokens(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = another_checkpoint(project)
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "word": 1}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"})
    )
    project.write_text("word " * 90 + "other " * 10)


def lossy_tokenizer(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = another_checkpoint(project)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Replace("e", "")
    tokenizer.save(str(folder / "tokenizer.json"))
    project.write_text("abcde " * 100)


def too_little_memory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esa_pytest.evaluation.capacity.needed_bytes", lambda _: 3 << 30)
    monkeypatch.setattr("esa_pytest.evaluation.capacity.available_bytes", lambda _: 2 << 30)


def of_a_data_set(project: Project) -> None:
    project.add('path = "mine.txt"', f'{OF_THE_HUB}\nsplit = "test"')


def corpus_unreachable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    of_a_data_set(project)
    monkeypatch.setattr("esa_pytest.evaluation.hub._why_unreachable", lambda: SILENT)
    # What reads data sets is heavy, and none of it is reached here.
    monkeypatch.setitem(sys.modules, "datasets", ModuleType("datasets"))
    monkeypatch.setattr("esa_pytest.evaluation.data_sets.quiet_datasets", nullcontext)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("esa_pytest.evaluation.data_sets._loaded", fail)


def corpus_without_datasets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    of_a_data_set(project)
    monkeypatch.setitem(sys.modules, "datasets", None)  # how python marks what is not there


CAUSES: dict[Cause, str] = {
    gated: (
        "The model org/name is gated and no token is set; accept its licence at https://hub.invalid/org/name and set "
        "HF_TOKEN to a token of that account."
    ),
    unreachable: (
        f"The model org/name at 0123456789ab is not in the hub's cache, and {SILENT}; connect to the hub, or bring the "
        "cache from a machine that can (HF_HUB_CACHE)."
    ),
    without_revision: (
        "The repository org/name has no commit 0123456789abcdef0123456789abcdef01234567; correct the revision in "
        "[[]tool.esa.models]."
    ),
    pickled: (
        "The repository org/name at 0123456789ab has no safetensors, only pytorch_model.bin and the like; pickled "
        "weights are never loaded, so pin a commit that has safetensors, or convert it and name the folder as path."
    ),
    foreign_code: (
        "The model org/name needs code of its own: transformers * does not know the architecture 'unheard-of', and "
        "code from a repository is never run; use a model or a release of transformers that does without."
    ),
    # The blank is the token 220 of an alphabet of bytes.
    too_few_embeddings: (
        "The tokenizer does not fit the model: it gives the token 220 for the corpus 'mine' and the model has 100 "
        "embeddings; use the tokenizer that the model was trained with."
    ),
    unknown_tokens: (
        "The tokenizer does not fit the corpus 'mine': 10.00% of its tokens are '<unk>', allowed are 1%; use another "
        "corpus, or the model's tokenizer."
    ),
    lossy_tokenizer: (
        "The tokenizer does not fit the corpus 'mine': 20.00% of its characters do not come back when it is encoded "
        "and decoded, allowed are 1%; use the model's own tokenizer."
    ),
    too_little_memory: (
        "The model tiny needs about 3.0 GiB (0.0 of weights in bf16) and cpu has 2.0 GiB free; free some, or use a "
        "larger device (--esa-device)."
    ),
    corpus_unreachable: (
        f"The corpus 'mine' cannot be fetched: {SILENT}; connect to the hub, or give a local copy "
        "as path in [[]tool.esa.corpora.mine]."
    ),
    corpus_without_datasets: (
        "The corpus 'mine' is a data set, which needs datasets: pip install 'esa-pytest[[]datasets]'."
    ),
}


@pytest.mark.parametrize(("cause", "sentence"), CAUSES.items(), ids=[cause.__name__ for cause in CAUSES])
def test_what_cannot_be_judged_is_one_skip_and_not_green_and_a_failure_if_strict(
    project: Project, monkeypatch: pytest.MonkeyPatch, cause: Cause, sentence: str
) -> None:
    cause(project, monkeypatch)
    skipped = project.run("-rs")
    assert skipped.ret == Status.NOT_JUDGED
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines(
        [
            f"esa: not judged test_it.py::test_baseline[[]tiny-smoke]: {sentence}",
            "esa: nothing was judged, so this run has not passed (--esa-allow-unjudged accepts that)",
            "esa: judged 0 of 1",
            f"SKIPPED [[]1] *: {sentence}",
        ]
    )
    strict = project.run("--esa-strict")
    assert strict.ret == Status.NOT_JUDGED
    strict.assert_outcomes(failed=1)
    strict.stdout.fnmatch_lines([f"esa: tiny-smoke could not be judged. {sentence}"])
    strict.stdout.no_fnmatch_line("*Traceback*")
    strict.stdout.no_fnmatch_line("*Error*:*")


def test_a_run_that_judges_nothing_may_be_allowed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    too_little_memory(project, monkeypatch)
    result = project.run("--esa-allow-unjudged")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["esa: nothing was judged, which --esa-allow-unjudged accepts"])


def test_the_variable_asks_for_strictness(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    too_little_memory(project, monkeypatch)
    monkeypatch.setenv("ESA_STRICT", "1")
    project.run().assert_outcomes(failed=1)
    monkeypatch.setenv("ESA_STRICT", "0")
    project.run().assert_outcomes(skipped=1)


def test_the_ini_key_asks_for_strictness(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    too_little_memory(project, monkeypatch)
    project.run("-o", "esa_strict=true").assert_outcomes(failed=1)


def with_an_unreachable_neighbour(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recorded.add("[tool.esa.corpora.mine]", f"[tool.esa.models.gone]\n{OF_THE_HUB}\n\n[tool.esa.corpora.mine]")
    recorded.add('smoke = ["tiny"]', 'smoke = ["tiny", "gone"]')


def test_a_skip_beside_a_judged_baseline_leaves_the_run_green(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_an_unreachable_neighbour(recorded, monkeypatch)
    result = recorded.run()
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["esa: not judged *[[]gone-smoke]: The model org/name at *", "esa: judged 1 of 2"])
    strict = recorded.run("--esa-strict")
    assert strict.ret == Status.NOT_JUDGED
    strict.assert_outcomes(passed=1, failed=1)
    strict.stdout.fnmatch_lines(["esa: judged 1 of 2"])


def sentences(result: pytest.RunResult) -> list[str]:
    """What a run says of the baselines, the figures of one process (time, memory) aside."""
    wanted = ("esa: judged", "esa: not", "SKIPPED", "  identical", "  strata", "  would have caught")
    return sorted(line.partition(" · memory ")[0] for line in result.outlines if line.startswith(wanted))


def test_workers_say_and_count_the_same(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with_an_unreachable_neighbour(recorded, monkeypatch)
    alone = recorded.run("-rs")
    shared = recorded.run_apart("-rs", "-n", "2", "--dist", "loadgroup")
    assert len(sentences(alone)) == 6
    assert sentences(shared) == sentences(alone)
    assert shared.ret == alone.ret == pytest.ExitCode.OK


def test_the_models_fixture_skips_and_fails_alike(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    too_little_memory(project, monkeypatch)
    project.write_test("def test_baseline(esa_baseline, esa_model):\n    esa_baseline.check()\n")
    skipped = project.run("-rs")
    skipped.assert_outcomes(skipped=1)
    skipped.stdout.fnmatch_lines([f"SKIPPED [[]1] *: {CAUSES[too_little_memory]}"])
    strict = project.run("--esa-strict")
    strict.assert_outcomes(errors=1)
    strict.stdout.fnmatch_lines([f"esa: tiny-smoke could not be judged. {CAUSES[too_little_memory]}"])


def test_an_unreachable_model_is_asked_for_once_a_session(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    on_the_hub(project, monkeypatch, gated="manual")
    monkeypatch.setattr("esa_pytest.evaluation.hub.cached_snapshot", lambda model: asked.append(model.repo))
    project.add('smoke = ["tiny"]', 'smoke = ["tiny"]\nstandard = ["tiny"]')
    result = project.run("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            f"esa: not judged test_it.py::test_baseline[[]tiny-smoke] and 1 more: {CAUSES[gated]}",
            f"SKIPPED [[]2] *: {CAUSES[gated]}",
        ]
    )
    assert asked == ["org/name"]
