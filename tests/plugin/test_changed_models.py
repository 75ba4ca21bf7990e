"""A test that changes the model and forgets to put it back: no later test measures on what it left."""

import pytest

from tests.plugin.conftest import Project

NAME = "model.layers.1.mlp.down_proj.weight"
# Between a perturbation and another one, or a sweep.
DAMAGED = f"""
from esa_pytest.sensitivity import SingleWeights

def test_guarded(esa_perturb):
    with esa_perturb({NAME!r}, scale=1.0) as run:
        assert run.drift.mean_nll == 0.0

def test_forgetful(esa_model):
    esa_model.get_parameter("model.layers.0.mlp.up_proj.weight").data.mul_(1.5)

def test_damaged(esa_perturb, esa_sensitivity, tmp_path):
    {{}}

def test_next(esa_perturb):
    with esa_perturb({NAME!r}, scale=1.0) as run:
        assert run.drift.mean_nll == 0.0
"""
NESTED = f"""
def test_it(esa_perturb):
    with esa_perturb({NAME!r}, scale=1.5) as outer:
        with esa_perturb({NAME!r}, zero=(0, 0)) as inner, esa_perturb("lm_head.weight", scale=1.5):
            assert inner.drift.rms > 0
        assert outer.drift.rms > 0
"""

pytestmark = pytest.mark.usefixtures("bits_taken_for_stable")


@pytest.mark.parametrize(
    ("use", "refused"),
    [
        (f"esa_perturb({NAME!r}, scale=1.0)", "perturbed"),
        ("esa_sensitivity(SingleWeights(count=1, seed=0), to=tmp_path / 'rows.csv')", "swept"),
    ],
)
def test_model_that_another_test_has_changed_is_not_perturbed_and_not_used_again(
    use: str, refused: str, recorded: Project
) -> None:
    recorded.write_test(DAMAGED.format(use))
    result = recorded.run()
    result.assert_outcomes(failed=1, passed=3)
    result.stdout.fnmatch_lines(
        [f"*esa: tiny-smoke is not {refused}. model.layers.0.mlp.up_proj.weight is not what it was when tiny-smoke *"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*esa_pytest/perturb*")


def test_block_inside_another_is_no_damage(recorded: Project) -> None:
    recorded.write_test(NESTED)
    recorded.run().assert_outcomes(passed=1)
