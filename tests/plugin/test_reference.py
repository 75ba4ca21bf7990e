"""The float32 reference in a user's run: what it says in another environment, and of another device's golden."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from esa_pytest.golden.files import read_golden, write_packed
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack
from tests.model.tiny import running_text
from tests.plugin.conftest import Project

ATTENTION = scaled_dot_product_attention

PERTURBED = """
import torch

def test_baseline(esa_baseline, esa_model):
    with torch.no_grad():
        esa_model.model.layers[1].mlp.down_proj.weight[0, 0] += 0.05
    esa_baseline.check()
"""
EAGER = """
def test_baseline(esa_baseline, esa_model):
    esa_model.set_attn_implementation('eager')
    esa_baseline.check()
"""


@pytest.fixture
def elsewhere(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A recorded project in another environment than its golden's."""
    monkeypatch.setenv("MKL_CBWR_NOTE", "another environment")
    return recorded


@pytest.fixture
def of_a_gpu(recorded: Project) -> Project:
    """A project whose only golden is one of a GPU."""
    root = recorded.pytester.path / "baselines_golden"
    here = GoldenLocation(root=root, folder="tiny__smoke", device="cpu", dtype="bfloat16")
    there = replace(here, device="cuda-sm90")
    golden = read_golden(here)
    assert golden is not None
    write_packed(there.json, pack(replace(golden, device="cuda-sm90"), npz_name=there.npz.name))
    here.json.unlink()
    here.npz.unlink()
    return recorded


def test_another_kernel_changes_bits_and_no_meaning(recorded: Project) -> None:
    recorded.write_test(EAGER)
    result = recorded.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            (
                "  within-noise   decided by tier 5 (aggregate): * of 256 token NLLs have other bits in an environment "
                "that differs in 1 item, the float32 reference agrees (rounding changed, meaning did not), and every "
                "metric is within its tolerance   loss *"
            ),
            "    attention  sdpa -> eager",
            "  bits           * of 256 tokens changed · *",
            "  reference      rms * (allowed *) · max * (allowed *) nats over 31 tokens in float32",
            "  would have caught: reference * nats · bf16 mean * nats*",
        ]
    )
    assert recorded.manifest()["seconds"]["reference"] > 0


def test_one_changed_weight_in_another_environment_is_semantic_drift_and_named(elsewhere: Project) -> None:
    elsewhere.write_test(PERTURBED)
    result = elsewhere.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke is semantic-drift, decided by tier 3 (reference):",
            (
                "  the model computes something else: the float32 reference moved by * nats rms a token, allowed is *; "
                "the first module that moved is model.layers.1.mlp."
            ),
            "  first moved    model.layers.1.mlp; * of 17 modules moved",
            "    env.MKL_CBWR_NOTE  (none) -> another environment",
            "    pytest 'test_it.py::test_baseline[[]tiny-smoke]' --snapshot-update --esa-reason *",
            "esa: judged 1 of 1",
        ]
    )
    verdict = elsewhere.manifest()["verdict"]
    assert (verdict["outcome"], verdict["tier"]) == ("semantic-drift", 3)
    assert verdict["reference"]["first_moved"] == "model.layers.1.mlp"


def test_unexplained_bits_name_the_module_too(recorded: Project) -> None:
    recorded.write_test(PERTURBED)
    result = recorded.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke is unexplained-bits, decided by tier 2 (exact):",
            "*or bad memory; the first module that moved is model.layers.1.mlp.",
        ]
    )


def test_identical_never_pays_for_the_reference(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the probe was run")

    monkeypatch.setattr("esa_pytest.measuring.probing.probe", never)
    assert recorded.run().ret == pytest.ExitCode.OK
    assert "reference" not in recorded.manifest()["seconds"]


def test_a_reference_that_became_impossible_is_told(elsewhere: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esa_pytest.measuring.probing.why_unsuited", lambda _: "the model has a beard")
    elsewhere.write_test(PERTURBED)
    result = elsewhere.run()
    result.stdout.fnmatch_lines(
        [
            "  reference      not judged by: this run has none to compare with the golden's",
            "  note: The float32 reference was not computed: the model has a beard.",
        ]
    )
    assert elsewhere.manifest()["verdict"]["reference_refusal"] == "this run has none to compare with the golden's"


def test_an_accepted_drift_is_identical_afterwards(elsewhere: Project) -> None:
    elsewhere.write_test(PERTURBED)
    elsewhere.record("--esa-reason", "on purpose")
    result = elsewhere.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  identical      256 of 256 token NLLs bit-equal *"])


def test_a_golden_of_another_device_judges_the_meaning(of_a_gpu: Project) -> None:
    result = of_a_gpu.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            (
                "  reference-only decided by tier 3 (reference): there is no golden for cpu, and the float32 reference "
                "agrees with that of cuda-sm90: * nats rms a token, allowed is *; unproven between cuda-sm90 and "
                "cpu, so this is told and not judged   loss *"
            ),
            "  would have caught: reference * nats*",
            (
                "  to judge all tiers here, record a golden: pytest 'test_it.py::test_baseline[[]tiny-smoke]' "
                "--snapshot-update --esa-reason *"
            ),
            "esa: judged 1 of 1",
        ]
    )
    assert not of_a_gpu.golden.exists()


def test_a_drift_from_another_device_is_a_warning_while_unproven(of_a_gpu: Project) -> None:
    of_a_gpu.write_test(PERTURBED)
    result = of_a_gpu.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            (
                "*EsaWarning: tiny-smoke: there is no golden for cpu, and the float32 reference differs from that of "
                "cuda-sm90: *"
            ),
            "  first moved    model.layers.1.mlp; *",
        ]
    )


def test_another_text_than_that_of_the_other_device_is_changed_inputs(of_a_gpu: Project) -> None:
    text = (of_a_gpu.pytester.path / "mine.txt").read_text(encoding="utf-8")
    of_a_gpu.write_text(text.replace("e", "a"))
    result = of_a_gpu.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*corpus.mine.sha256 is *it is not the same experiment as on cuda-sm90."])


def test_an_update_beside_another_devices_golden_leaves_that_alone(of_a_gpu: Project) -> None:
    other = of_a_gpu.golden.with_name("cuda-sm90-bfloat16.json")
    before = other.read_bytes(), other.with_suffix(".npz").read_bytes()
    of_a_gpu.record()
    assert of_a_gpu.golden.exists()
    assert (other.read_bytes(), other.with_suffix(".npz").read_bytes()) == before


@pytest.fixture
def with_noise(project: Project, bits_taken_for_stable: None, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose golden scores enough tokens to judge by their noise, and another environment."""
    project.add("scored_tokens = { cpu = 256, cuda = 256 }", "scored_tokens = { cpu = 2048, cuda = 2048 }")
    project.write_text(running_text(2100))
    project.record()
    monkeypatch.setenv("MKL_CBWR_NOTE", "another environment")
    return project


def sharper(query: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """Attention whose logits are larger than they should be, as a scale that is applied twice makes them smaller."""
    return ATTENTION(query * 4.0, *arguments, **options)


def unmasked(*arguments: Any, **options: Any) -> Tensor:
    """Attention that sees the future, which makes the loss better."""
    return ATTENTION(*arguments, **{**options, "is_causal": False, "attn_mask": None})


@pytest.mark.parametrize("fault", [sharper, unmasked])
def test_a_fault_of_the_bf16_kernel_alone_is_numeric_drift(
    with_noise: Project, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Tensor]
) -> None:
    """The float32 reference computes with another attention, and cannot see it: the noise of the scores can."""
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", fault)
    result = with_noise.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "esa: tiny-smoke is numeric-drift, decided by tier 4 (paired):",
            "*the float32 reference agrees (it computes with eager attention: a fault of sdpa alone it cannot see)*",
        ]
    )
    verdict = with_noise.manifest()["verdict"]
    assert (verdict["outcome"], verdict["tier"]) == ("numeric-drift", 4)


def test_another_kernel_is_what_the_noise_shows(with_noise: Project) -> None:
    with_noise.write_test(EAGER)
    result = with_noise.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  within-noise   decided by tier 4 (paired): *, and the drift is what * show *"])
