"""Which difference of two environments to suspect first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.drift.causes import ranked
from esa_pytest.records import Change

NAMES = (
    "version.numpy",
    "cpu.threads",
    "version.transformers",
    "torch.deterministic",
    "batch_shapes",
    "version.tokenizers",
    "version.accelerate",
    "version.torch",
    "env.OMP_NUM_THREADS",
    "cuda.driver",
    "a.stranger",
    "attention",
    "cpu.model",
    "cuda.device",
    "version.safetensors",
    "scoring.path",
    "cpu.instruction_set",
    "zlib",
)
KERNELS_FIRST = [
    "cuda.device",
    "cpu.instruction_set",
    "version.torch",
    "attention",
    "torch.deterministic",
    "env.OMP_NUM_THREADS",
    "cuda.driver",
    "scoring.path",
    "batch_shapes",
    "version.transformers",
    "version.accelerate",
    "cpu.model",
    "cpu.threads",
    "version.tokenizers",
    "version.safetensors",
    "version.numpy",
    "a.stranger",
    "zlib",
]
BUILDERS = [
    "version.transformers",
    "version.tokenizers",
    "version.safetensors",
    "version.accelerate",
    "scoring.path",
]


def change(name: str) -> Change:
    return Change(name=name, golden="old", measured="new")


def order(names: list[str], *, meaning_changed: bool) -> list[str]:
    return [found.name for found in ranked([change(name) for name in names], meaning_changed=meaning_changed)]


@given(st.permutations(NAMES))
def test_rounding_is_owed_to_kernels(names: list[str]) -> None:
    assert order(names, meaning_changed=False) == KERNELS_FIRST


@given(st.permutations(NAMES))
def test_meaning_is_owed_to_what_builds_the_model(names: list[str]) -> None:
    rest = [name for name in KERNELS_FIRST if name not in BUILDERS]
    assert order(names, meaning_changed=True) == [*BUILDERS, *rest]


@pytest.mark.parametrize("meaning_changed", [True, False])
@given(names=st.lists(st.text(max_size=9) | st.sampled_from(NAMES), unique=True))
def test_nothing_is_lost_and_the_order_given_does_not_matter(names: list[str], *, meaning_changed: bool) -> None:
    found = order(names, meaning_changed=meaning_changed)
    assert sorted(found) == sorted(names)
    assert order(names[::-1], meaning_changed=meaning_changed) == found
    assert order(found, meaning_changed=meaning_changed) == found


def test_packages_whose_names_begin_alike_stand_together_by_name() -> None:
    assert order(["version.torchvision", "attention", "version.torch"], meaning_changed=False)[0] == "version.torch"
    assert order(["env.B", "env.A", "cuda.b", "cuda.a"], meaning_changed=False) == [
        "env.A",
        "env.B",
        "cuda.a",
        "cuda.b",
    ]
