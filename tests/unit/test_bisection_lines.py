"""Every sentence of a bisection."""

from typing import Any

import pytest

from esa_pytest.bisection import lines
from esa_pytest.bisection.conclusion import narrowed
from esa_pytest.bisection.differences import Differences, Move, Untriable
from esa_pytest.bisection.search import Finding, Moved, Standing
from esa_pytest.bisection.trial import MovedPackage, Trial
from esa_pytest.records import Change

TRANSFORMERS = MovedPackage(package="transformers", version="5.23.0", here="4.57.6")
TORCH = MovedPackage(package="torch", version="2.13.0", here="2.12.0")
HUB = MovedPackage(package="huggingface-hub", version="1.5.0", here="0.36.0")
PYTHON = Untriable(name="python", golden="3.11.7", here="3.12.1", why="python is no package")
THREADS = Change(name="cpu.threads", golden="2", measured=None)
MOVES = tuple(Move(package=p.package, golden=p.version, here=p.here) for p in (TRANSFORMERS, TORCH))
NUMBERS: dict[str, Any] = {
    "num_compared": 2048,
    "num_changed": 1976,
    "mean": 0.0123,
    "maximum": 1.5,
    "reference_rms": 2.4,
}


def trial(*moved: MovedPackage, standing: Standing = Standing.BITS, **more: Any) -> Trial:
    outcomes = {
        Standing.UNOBTAINABLE: "could not be tried",
        Standing.BROKEN: "broken",
        Standing.AWAY: "semantic-drift",
        Standing.MEANING: "within-noise",
        Standing.BITS: "identical",
    }
    numbers = NUMBERS if standing > Standing.BROKEN else {}
    if standing is Standing.BITS:
        numbers = NUMBERS | {"num_changed": 0, "mean": 0.0, "maximum": 0.0, "reference_rms": None}
    fields: dict[str, Any] = (
        {"tier": 3, "reason": "it is so", "seconds": 12.3, "outcome": outcomes[standing]} | numbers | more
    )
    return Trial(moved=moved, standing=standing, **fields)


HERE = trial(standing=Standing.AWAY, notes=("The base is wrong.",))


def found(*causes: Moved, standing: Standing = Standing.BITS) -> Finding:
    return Finding(causes=causes, standing=standing)


@pytest.mark.parametrize(
    ("standing", "meant"),
    [
        (Standing.AWAY, "the meaning changed"),
        (Standing.MEANING, "only rounding changed, meaning did not"),
    ],
)
def test_the_beginning_says_how_it_stands_here(standing: Standing, meant: str) -> None:
    text = lines.start_lines("tiny-smoke", "2026-01-02", trial(standing=standing), reused=False)
    assert text[0] == "esa: tiny-smoke here, beside its golden of 2026-01-02"
    assert text[1].split()[1:] == ["decided", "by", "tier", "3:", "it", "is", "so"]
    assert text[2] == f"  conclusion     {meant} (12 s)"


def test_the_beginning_of_an_identical_run_and_of_one_with_notes() -> None:
    assert lines.start_lines("tiny", "2026", trial(), reused=True)[1:] == [
        "  identical      it is so",
        "  conclusion     nothing changed (12 s, kept from an earlier call)",
    ]
    assert lines.start_lines("tiny", "2026", HERE, reused=False)[-1] == "  note: The base is wrong."


def test_what_differs_is_listed_in_the_order_of_trying() -> None:
    assert lines.differences_lines(Differences(moves=MOVES, untriable=(PYTHON,), others=())) == [
        "  packages       2 differ, the likeliest first:",
        "    transformers  5.23.0 -> 4.57.6",
        "    torch         2.13.0 -> 2.12.0",
        "  not tried      python 3.11.7 -> 3.12.1: python is no package",
    ]
    assert lines.differences_lines(Differences(moves=(), untriable=(), others=())) == []


def test_a_trial_is_told_with_its_companions() -> None:
    told = trial(TRANSFORMERS, companions=(HUB,))
    assert lines.trial_line(told, reused=False) == (
        "  tried          transformers back at 5.23.0, with huggingface-hub at 1.5.0: identical (12 s)"
    )
    assert lines.trial_line(trial(TRANSFORMERS, TORCH), reused=True) == (
        "  tried          transformers back at 5.23.0 and torch at 2.13.0: identical (12 s, kept from an earlier call)"
    )


@pytest.mark.parametrize(
    ("standing", "outcome"), [(Standing.UNOBTAINABLE, "could not be tried"), (Standing.BROKEN, "broken")]
)
def test_a_trial_that_says_nothing_says_why(standing: Standing, outcome: str) -> None:
    told = trial(TORCH, standing=standing, reason="ImportError: no")
    assert lines.trial_line(told, reused=False) == (
        f"  tried          torch back at 2.13.0: {outcome}: ImportError: no (12 s)"
    )


def test_the_table_holds_every_environment() -> None:
    trials = [HERE, trial(TRANSFORMERS, companions=(HUB,)), trial(TORCH, standing=Standing.BROKEN)]
    first, *table, last = lines.table_lines(trials)
    assert (first, last) == ("", "")
    assert len({len(line) for line in table}) == 1
    assert [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table] == [
        ["environment", "outcome", "changed", "mean", "max", "reference", "seconds"],
        ["as it is here", "semantic-drift", "1976 of 2048 tokens", "+1.23e-02", "1.50e+00", "2.4e+00", "12"],
        [
            "transformers back at 5.23.0 and 1 companion",
            "identical",
            "0 of 2048 tokens",
            "+0.00e+00",
            "0.00e+00",
            "-",
            "12",
        ],
        ["torch back at 2.13.0", "broken", "-", "-", "-", "-", "12"],
    ]


def test_identical_numbers_end_it() -> None:
    assert lines.identical_line(trial()) == (
        "esa: all 2048 token NLLs have the golden's bits here; no package moved the numbers."
    )


def test_no_package_that_differs_leaves_the_rest_as_suspects() -> None:
    nothing = "esa: No package that can be moved back differs from the golden's."
    assert lines.no_package_line(Differences(moves=(), untriable=(), others=())) == (
        f"{nothing} Nothing else on record differs: look for a perturbation in memory, or for a package not on record."
    )
    assert lines.no_package_line(Differences(moves=(), untriable=(PYTHON,), others=(THREADS,))) == (
        f"{nothing} Not tried: python 3.11.7 -> 3.12.1: python is no package. What else differs, and is no package: "
        f"cpu.threads (2 -> (none))."
    )


def test_files_that_changed_are_nobodys_package() -> None:
    assert lines.other_inputs_line(["checkpoint.weights_sha256"]) == (
        "esa: It is not the same experiment as the golden's: checkpoint.weights_sha256 is read from files, and no "
        "package changes those; restore them first."
    )
    assert "corpus.a.sha256 and tokenizer.sha256 are read" in lines.other_inputs_line(
        ["corpus.a.sha256", "tokenizer.sha256"]
    )


def test_the_one_package_is_named() -> None:
    told = lines.found_line(found(frozenset({"transformers"})), [HERE, trial(TRANSFORMERS)])
    assert told == (
        "esa: transformers 5.23.0 -> 4.57.6 is what moved the numbers: with transformers back at 5.23.0 all 2048 token "
        "NLLs have the golden's bits."
    )


def test_the_one_package_is_named_with_its_companions() -> None:
    told = lines.found_line(found(frozenset({"transformers"})), [HERE, trial(TRANSFORMERS, companions=(HUB,))])
    assert told == (
        "esa: transformers 5.23.0 -> 4.57.6, with huggingface-hub 1.5.0 -> 0.36.0, is what moved the numbers: with "
        "transformers back at 5.23.0 all 2048 token NLLs have the golden's bits."
    )


def test_a_meaning_that_came_back_is_told_apart_from_bits() -> None:
    back = trial(TRANSFORMERS, standing=Standing.MEANING)
    told = lines.found_line(found(frozenset({"transformers"}), standing=Standing.MEANING), [HERE, back])
    assert told.endswith(
        ": with transformers back at 5.23.0 the model means what it meant, in other bits of 1976 of 2048 tokens."
    )


def test_several_that_each_suffice_are_all_named() -> None:
    causes = found(frozenset({"transformers"}), frozenset({"torch"}))
    assert lines.found_line(causes, [HERE, trial(TRANSFORMERS), trial(TORCH)]) == (
        "esa: Any one of transformers 5.23.0 -> 4.57.6 and torch 2.13.0 -> 2.12.0 explains what moved the numbers: "
        "with transformers back at 5.23.0 all 2048 token NLLs have the golden's bits and with torch back at 2.13.0 all "
        "2048 token NLLs have the golden's bits."
    )


def test_a_set_is_named_as_one_cause() -> None:
    told = lines.found_line(found(frozenset({"transformers", "torch"})), [HERE, trial(TRANSFORMERS, TORCH)])
    assert told == (
        "esa: transformers 5.23.0 -> 4.57.6 and torch 2.13.0 -> 2.12.0 moved the numbers together: to move back fewer "
        "of them is not enough, and with transformers back at 5.23.0 and torch at 2.13.0 all 2048 token NLLs have the "
        "golden's bits."
    )


def test_what_no_package_explains_leaves_the_rest_as_suspects() -> None:
    trials = [
        HERE,
        trial(TRANSFORMERS, standing=Standing.AWAY),
        trial(TORCH, standing=Standing.UNOBTAINABLE, reason="pip installs no wheel of torch==2.13.0"),
    ]
    told = lines.unexplained_line(MOVES, trials, Differences(moves=MOVES, untriable=(PYTHON,), others=(THREADS,)))
    assert told == (
        "esa: No package of transformers and torch explains it: with transformers back at 5.23.0 it is semantic-drift "
        "still. torch says nothing: could not be tried, pip installs no wheel of torch==2.13.0. Not tried: python "
        "3.11.7 -> 3.12.1: python is no package. What else differs, and is no package: cpu.threads (2 -> (none))."
    )


def test_where_none_could_be_moved_it_is_said() -> None:
    trials = [HERE, trial(TORCH, standing=Standing.BROKEN, reason="ImportError: no")]
    told = lines.unexplained_line(MOVES[1:], trials, Differences(moves=MOVES, untriable=(), others=()))
    assert told.startswith(
        "esa: No package of torch explains it: none of them could be moved back. torch says nothing: broken, "
        "ImportError: no. Nothing else on record differs"
    )


@pytest.mark.parametrize(
    ("left", "rest"),
    [
        (None, "every package is still to be tried"),
        (["numpy"], "numpy is still to be tried alone"),
        (["numpy", "torch"], "numpy and torch are still to be tried alone"),
        ([], "every package has been tried alone, and not every set of them that matters"),
    ],
)
def test_what_is_left_when_the_time_is_up(left: list[str] | None, rest: str) -> None:
    assert lines.unfinished_line(2.5, "torch was moved back", left, "/w") == (
        f"The time limit of 2.5 s is up while torch was moved back; {rest}. What was measured is kept in /w: call "
        f"esa bisect again to go on from there, with a longer limit if one step, or all that broke together, takes "
        f"longer than this one."
    )


class TestNarrowed:
    """A package that only did it by its companion is not the cause."""

    BY_HUB = trial(TRANSFORMERS, companions=(HUB,))

    def test_the_companion_that_does_it_alone_is(self) -> None:
        finding = found(frozenset({"transformers"}), frozenset({"huggingface-hub"}))
        assert narrowed(finding, [HERE, self.BY_HUB, trial(HUB)]) == (frozenset({"huggingface-hub"}),)

    def test_another_version_of_the_companion_says_nothing(self) -> None:
        finding = found(frozenset({"transformers"}), frozenset({"huggingface-hub"}))
        other = HUB.model_copy(update={"version": "1.6.0"})
        assert narrowed(finding, [HERE, self.BY_HUB, trial(other)]) == finding.causes

    def test_two_that_take_each_other_along_cannot_be_told_apart(self) -> None:
        finding = found(frozenset({"transformers"}), frozenset({"huggingface-hub"}))
        assert narrowed(finding, [HERE, self.BY_HUB, trial(HUB, companions=(TRANSFORMERS,))]) == finding.causes
