"""The fixtures `esa_perturb` and `esa_sensitivity`: behind a guard, and never a traceback for a user's mistake."""

import pytest

from esa_pytest.drift.rules import Rules
from tests.plugin.conftest import Project

NAME = "model.layers.1.mlp.down_proj.weight"

pytestmark = pytest.mark.usefixtures("bits_taken_for_stable")


def write(project: Project, body: str) -> None:
    """A test of these lines."""
    lines = "\n".join(f"    {line}" for line in body.strip().split("\n"))
    project.write_test(
        f"""
from esa_pytest.perturbation import Drawn, Perturbation, Scale, Zero
from esa_pytest.records import Outcome, Tier
from esa_pytest.sensitivity import SingleWeights

NAME = {NAME!r}

def test_it(esa_baseline, esa_perturb, esa_sensitivity, tmp_path):
{lines}
"""
    )


def run(project: Project, body: str, *arguments: str) -> pytest.RunResult:
    """A test of these lines, run."""
    write(project, body)
    return project.run(*arguments)


def test_drift_is_measured_inside_the_block_and_gone_behind_it(recorded: Project) -> None:
    result = run(
        recorded,
        """
with esa_perturb(NAME, scale=3.0) as run:
    assert run.drift.rms > 0
    assert run.drift.mean_nll_error > 0
    assert run.drift.reference_rms > 0
    assert run.drift.first_moved == "model.layers.1.mlp"
    assert run.verdict.outcome is Outcome.SEMANTIC_DRIFT
    assert run.drift.seen_by[:2] == (Tier.EXACT, Tier.REFERENCE)
    assert any(change.name == "perturbation" for change in run.verdict.environment)
# It stays readable.
assert run.drift.rms > 0
with esa_perturb(NAME, noise=0.0) as run:
    assert run.verdict.outcome is Outcome.IDENTICAL
    assert run.drift.mean_nll == 0.0
assert esa_baseline.check().outcome is Outcome.IDENTICAL
""",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*esa: judged 1 of 1"])


def test_failed_assertion_shows_the_numbers_and_not_every_statistic(recorded: Project) -> None:
    result = run(recorded, "with esa_perturb(NAME, zero=(0, 0)) as run:\n    assert run.drift.mean_nll > 100")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E * where * = Drift(mean_nll=*).mean_nll", f"E * <PerturbedRun: zero, 1 number of {NAME}>*"]
    )
    result.stdout.no_fnmatch_line("*Verdict(*")


def test_several_at_once_and_kinds_as_objects(recorded: Project) -> None:
    run(
        recorded,
        """
one = Perturbation(parameter=NAME, kind=Zero(), where=Drawn(count=3, seed=1))
two = Perturbation(parameter="lm_head.weight", kind=Scale(2.0))
with esa_perturb(one, two) as run:
    assert [each.num_numbers for each in run.applied][0] == 3
    assert run.drift.token_accuracy != 0 or run.drift.perplexity != 0
""",
    ).assert_outcomes(passed=1)


def test_guard_runs_once_a_model_and_process(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from esa_pytest.check.checking import Checking

    calls, check = [], Checking.check

    def counted(checking: Checking, rules: Rules) -> object:
        calls.append(checking.report.baseline.id)
        return check(checking, rules)

    monkeypatch.setattr(Checking, "check", counted)
    recorded.write_test(
        f"""
import pytest

@pytest.mark.parametrize("row", range(3))
def test_row(esa_perturb, row):
    with esa_perturb({NAME!r}, zero=(row, 0)) as run:
        assert run.applied[0].num_numbers == 1

def test_plain(esa_model):
    assert esa_model
"""
    )
    recorded.run().assert_outcomes(passed=4)
    assert calls == ["tiny-smoke"]


def test_guard_that_fails_refuses_with_its_verdict(recorded: Project) -> None:
    result = run(
        recorded,
        f"""
esa_baseline.model.get_parameter(NAME).data.mul_(1.5)
try:
    with esa_perturb({NAME!r}, zero=(0, 0)):
        assert False, "must not be entered"
finally:
    esa_baseline.model.get_parameter(NAME).data.div_(1.5)
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*esa: tiny-smoke is not perturbed, its own check failed.", "*esa: tiny-smoke is unexplained-bits*"]
    )
    result.stdout.no_fnmatch_line("*must not be entered*")
    result.stdout.no_fnmatch_line("*Traceback*")


def test_without_a_golden_nothing_is_perturbed(project: Project) -> None:
    result = run(project, "esa_perturb(NAME, zero=(0, 0))")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*There is no golden*record one with*--snapshot-update*"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('esa_perturb("model.layers.9.mlp.down_proj.weight", zero=True)', "has no parameter"),
        ("esa_perturb(NAME)", "nothing is given"),
        ("esa_perturb(NAME, zero=(64, 0))", "outside a dimension of 64"),
        ("esa_perturb(Perturbation(parameter=NAME, kind=Zero()), at=3)", "keywords beside it"),
        ("esa_perturb(NAME, 'lm_head.weight', zero=True)", "'lm_head.weight' is given in the place of a perturbation"),
        ("esa_perturb(NAME, scale='1.5')", "A scale by '1.5' is asked for"),
        ("esa_sensitivity(SingleWeights(count=1, seed=-1), to=tmp_path / 'rows.csv')", "The seed -1 is given"),
        ("esa_sensitivity([], to=tmp_path / 'rows.csv')", "no perturbation to try"),
        ("esa_sensitivity(SingleWeights(count=0, seed=0), to=tmp_path / 'rows.csv')", "0 single weights"),
    ],
)
def test_mistakes_are_told_in_a_sentence(call: str, message: str, recorded: Project) -> None:
    result = run(recorded, call)
    result.assert_outcomes(failed=1)
    assert message in result.stdout.str()
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*esa_pytest/perturb*")


def test_drift_asked_for_behind_the_block_is_refused(recorded: Project) -> None:
    result = run(
        recorded,
        """
with esa_perturb(NAME, zero=True) as run:
    pass
run.drift
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*asked for outside of its block*"])


def test_model_that_was_not_restored_is_not_used_again(recorded: Project) -> None:
    recorded.write_test(
        f"""
def test_careless(esa_perturb, esa_model):
    with esa_perturb({NAME!r}, zero=(0, 0)):
        esa_model.get_parameter({NAME!r}).data[5, 5] += 1.0

def test_next(esa_baseline):
    esa_baseline.check()
"""
    )
    result = recorded.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*down_proj.weight is not what it was before it was perturbed*"])


def test_interrupt_inside_the_block_ends_the_session_and_restores(recorded: Project) -> None:
    write(
        recorded,
        """
import signal
# A shell starts what it runs in the background with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
before = esa_baseline.model.get_parameter(NAME).clone()
try:
    with esa_perturb(NAME, zero=True):
        signal.raise_signal(signal.SIGINT)
finally:
    print("restored:", bool((esa_baseline.model.get_parameter(NAME) == before).all()))
""",
    )
    # In a process of its own: pytest hands an interrupt on to whoever called it.
    result = recorded.run_apart("-s")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*restored: True"])


def test_sweep_has_a_row_a_weight_and_is_taken_up_again(recorded: Project) -> None:
    result = run(
        recorded,
        """
plan = SingleWeights(count=3, seed=0)
first = esa_sensitivity(plan, to=tmp_path / "rows.csv")
assert len(first.rows) == 3
assert esa_sensitivity(plan, to=tmp_path / "rows.csv") == first
listed = esa_sensitivity([Perturbation(parameter=NAME, kind=Scale(2.0))], to=tmp_path / "more.parquet")
assert listed.ranking()[0].mean_nll != 0
listed.heat_map(tmp_path / "map.svg")
""",
    )
    result.assert_outcomes(passed=1)


def test_model_that_a_sweep_did_not_restore_is_not_used_again(
    recorded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from esa_pytest.perturbation.guard import Guarded

    evaluate = Guarded.evaluate

    def careless(guarded: Guarded, description: str) -> object:
        if description == f"0: zero {NAME}":
            guarded.model.network.get_parameter(NAME).data[5, 5] += 1.0
        return evaluate(guarded, description)

    monkeypatch.setattr(Guarded, "evaluate", careless)
    recorded.write_test(
        f"""
from esa_pytest.perturbation import perturbation

def test_careless(esa_sensitivity, tmp_path):
    esa_sensitivity([perturbation({NAME!r}, zero=(0, 0))], to=tmp_path / "rows.csv")

def test_next(esa_baseline):
    esa_baseline.check()
"""
    )
    result = recorded.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*down_proj.weight is not what it was before it was perturbed*"])


def test_guard_accepts_what_was_recorded_in_the_same_run(project: Project) -> None:
    result = run(
        project,
        """
with esa_perturb(NAME, scale=2.0) as run:
    assert run.drift.rms > 0
""",
        "--snapshot-update",
    )
    result.assert_outcomes(passed=1)
    assert project.golden.exists()
