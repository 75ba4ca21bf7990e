"""Each way to be wrong fails, with the tier that decided and a sentence that a stranger understands."""

import json

import pytest

from esa_pytest.exit_status import Status
from tests.plugin.conftest import TEXT, Project

FAILED = pytest.ExitCode.TESTS_FAILED
PERTURBED = """
import torch

def test_baseline(esa_baseline, esa_model):
    with torch.no_grad():
        {perturbation}
    esa_baseline.check()
"""


def test_one_zeroed_weight_is_unexplained_bits(recorded: Project) -> None:
    recorded.write_test(PERTURBED.format(perturbation="esa_model.model.layers[1].mlp.down_proj.weight[3, 5] = 0.0"))
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke is unexplained-bits, decided by tier 2 (exact):",
            (
                "  * of 256 token NLLs have other bits, the environment is the golden's, and 3 fresh processes gave "
                "equal bits when it was recorded: an unrestored perturbation, a flag that is not listed, or bad "
                "memory; the first module that moved is model.layers.1.mlp."
            ),
            "  metric * golden * measured * drift * allowed",
            "  loss *",
            "  bits * tokens changed *",
            "  environment    the same as the golden's",
            "  Check that it is no regression first. To accept it:",
            "    pytest 'test_it.py::test_baseline[[]tiny-smoke]' --snapshot-update --esa-reason \"...\"",
        ]
    )
    assert recorded.manifest()["verdict"]["outcome"] == "unexplained-bits"


def test_nan_in_a_layer_is_non_finite_and_named(recorded: Project) -> None:
    recorded.write_test(
        PERTURBED.format(perturbation="esa_model.model.layers[1].mlp.down_proj.weight[3, 5] = float('nan')")
    )
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke is non-finite, decided by tier 1 (finite):",
            "  the output is NaN or infinite, first in layer model.layers.1.mlp.down_proj, window 0, token 0.",
            "  A run that is not finite is never a golden: mend the model or its inputs.",
        ]
    )
    manifest = recorded.manifest()
    assert manifest["metrics"] is None
    assert manifest["non_finite"]["layer"] == "model.layers.1.mlp.down_proj"


def test_nan_is_never_recorded(project: Project) -> None:
    project.write_test(PERTURBED.format(perturbation="esa_model.model.norm.weight[0] = float('nan')"))
    assert project.run("--snapshot-update").ret == FAILED
    assert not project.golden.exists()


def test_labels_off_by_one_are_changed_inputs(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "esa_pytest.evaluation.rectangle._scored",
        lambda values, window: values[window.score_begin + 1 : window.score_end + 1],
    )
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["esa: tiny-smoke is inputs-changed, decided by tier 0 (identity):", "  tokens.sha256 is *the golden has *"]
    )


def test_hidden_states_off_by_one_are_unexplained_bits(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from esa_pytest.evaluation import head, scoring

    whole = head.hidden_states
    monkeypatch.setattr(
        scoring,
        "hidden_states",
        lambda network, ids: whole(network, ids).roll(1, dims=1) if len(ids[0]) > 16 else whole(network, ids),
    )
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["esa: tiny-smoke is unexplained-bits, decided by tier 2 (exact):", "*  <- drifted"])


def test_a_double_bos_is_refused(recorded: Project) -> None:
    recorded.configure(bos="window")
    recorded.write_text("<bos>" + TEXT)
    result = recorded.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(
        [
            (
                "* The corpus 'mine' would give a double BOS: token * stands at 0 of "
                'its tokens and the BOS policy "window" puts another in front; remove it from the text, or set '
                'bos = "none".'
            )
        ]
    )


def test_another_bos_policy_is_changed_inputs(recorded: Project) -> None:
    recorded.configure(bos="window")
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["  windows.bos is window, the golden has none; it is not the same experiment."])


def test_one_changed_character_of_the_corpus_is_named(recorded: Project) -> None:
    recorded.write_text(TEXT.capitalize())
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke is inputs-changed, decided by tier 0 (identity):",
            "  corpus.mine.sha256 is *…, the golden has *…; it is not the same experiment.",
        ]
    )


@pytest.mark.parametrize("field", ["nll_sum", "perplexity", "num_correct_tokens"])
def test_an_edited_golden_is_refused_by_its_field(recorded: Project, field: str) -> None:
    content = json.loads(recorded.golden.read_text(encoding="utf-8"))
    content["metrics"][field] += 1
    recorded.golden.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
    result = recorded.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines([f"*cpu-bfloat16.json was edited by hand in its field metrics.{field}: it says *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_truncated_arrays_are_refused(recorded: Project) -> None:
    arrays = recorded.golden.with_suffix(".npz")
    arrays.write_bytes(arrays.read_bytes()[:-100])
    result = recorded.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*cpu-bfloat16.json does not match its arrays: the field arrays.sha256 is *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_metric_that_vanished_from_the_golden_is_refused(recorded: Project) -> None:
    content = json.loads(recorded.golden.read_text(encoding="utf-8"))
    del content["metrics"]["token_accuracy"]
    recorded.golden.write_text(json.dumps(content), encoding="utf-8")
    result = recorded.run()
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*is not valid in its field metrics.token_accuracy: Field required; *"])


def test_a_metric_on_one_side_only_is_changed_inputs(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esa_pytest.golden.assembly.METRIC_NAMES", ("mean_nll", "nll_sum"))
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["*is inputs-changed, decided by tier 0 (identity):", "  metrics is *, the golden has *"]
    )


def test_changed_weights_on_disk_are_changed_inputs(recorded: Project) -> None:
    from tests.model.tiny import save_tiny

    other = recorded.pytester.path / "other"
    save_tiny("mistral", other)
    recorded.add(str(recorded.checkpoint), str(other))
    result = recorded.run()
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["  model.architecture is MistralForCausalLM, the golden has LlamaForCausalLM; *"])


def test_a_path_that_leads_nowhere_is_broken_and_no_skip(recorded: Project) -> None:
    recorded.add(str(recorded.checkpoint), "nowhere")
    result = recorded.run("--esa-allow-unjudged")
    assert result.ret == Status.BROKEN
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke could not be judged. There is no checkpoint folder *nowhere; correct the path of *",
            "esa: judged 0 of 1",
        ]
    )
    assert recorded.manifest()["state"] == "error"


def test_a_test_that_never_checks_is_not_green(recorded: Project) -> None:
    recorded.write_test("def test_baseline(esa_baseline):\n    assert esa_baseline.id\n")
    result = recorded.run()
    assert result.ret == Status.NOT_JUDGED
    result.stdout.fnmatch_lines(["esa: judged 0 of 1"])


def test_rounds_that_disagree_are_told(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = iter(["one", "two"])
    monkeypatch.setattr("esa_pytest.measuring.measurement.bits_of", lambda *_: next(bits))
    result = recorded.run("--esa-rounds", "2")
    assert result.ret == Status.BROKEN
    result.stdout.fnmatch_lines(["*could not be judged. 2 rounds of tiny-smoke in one process gave 2 bit patterns; *"])
