from dataclasses import replace

import numpy as np
import pytest

from esa_pytest.drift.acceptance import why_refused, with_noise_of
from esa_pytest.errors import AcceptanceError
from esa_pytest.golden.blocks import as_blocks
from esa_pytest.records import BitStability, Record
from tests.unit.builders import (
    ENVIRONMENT,
    PROVEN,
    changed_identity,
    small_record,
    token_scores,
    tokens_of,
    with_flipped_bit,
)
from tests.unit.noise_builders import noisy_golden
from tests.unit.probe_builders import NOISE, PROBE, probed

GOLDEN = probed(small_record(token_scores([1.0, 3.0])), noise=NOISE)
MEASURE_IT = (
    "run it there with --esa-calibrate, or record it there with --snapshot-update, and take the record of that run."
)
PLAIN = "The record of tiny-smoke was not accepted: it is of a plain run, which measures no noise, and "


NOISY = noisy_golden()


def in_blocks(record: Record) -> Record:
    return replace(record, scores=as_blocks(record.scores))


def moved(loss: float) -> Record:
    return small_record(token_scores([loss - 1.0, loss + 1.0]))


def plain(record: Record = GOLDEN) -> Record:
    """A run of the same experiment that measured no noise."""
    unmeasured = BitStability(fresh_processes=0, distinct_bit_patterns=1)
    return replace(record, bit_stability=unmeasured, probe_noise=None, provenance={"reason": None})


class TestLimit:
    @pytest.mark.parametrize("loss", [2.0, 2.015625, 1.984375])
    def test_a_small_shift_is_accepted(self, loss: float) -> None:
        assert why_refused(GOLDEN, moved(loss), limit=0.01) is None

    @pytest.mark.parametrize(("loss", "shift"), [(2.0625, "+0.0312"), (1.9375, "-0.0312")])
    def test_a_larger_shift_is_refused_in_either_direction(self, loss: float, shift: str) -> None:
        assert why_refused(GOLDEN, moved(loss), limit=0.01) == (
            f"The golden of tiny-smoke was not replaced: its loss would go from 2 to {loss:g}, a relative shift of "
            f"{shift}, and at most 0.01 in either direction is accepted; find out what moved it, then add --esa-force, "
            f"or set --esa-accept-limit."
        )

    def test_the_limit_itself_is_accepted(self) -> None:
        assert why_refused(GOLDEN, moved(2.5), limit=0.25) is None
        assert why_refused(GOLDEN, moved(2.5), limit=0.2499) is not None

    def test_no_shift_at_all_may_be_allowed(self) -> None:
        assert why_refused(GOLDEN, moved(2.0), limit=0.0) is None
        assert why_refused(GOLDEN, moved(2.0 + 2**-10), limit=0.0) is not None

    def test_a_loss_of_zero_has_no_relative_shift(self) -> None:
        sentence = why_refused(small_record(token_scores([0.0])), small_record(token_scores([1.0])), limit=0.5)
        assert sentence is not None
        assert "from 0 to 1, a relative shift of +1 nats from zero, and at most 0.5" in sentence

    def test_the_loss_of_another_experiment_is_not_compared(self) -> None:
        other = changed_identity(moved(9.0), ("tokenizer", "sha256"), "f" * 64)
        assert why_refused(GOLDEN, other, limit=0.01) is None

    def test_without_a_golden_there_is_nothing_to_compare(self) -> None:
        assert why_refused(None, moved(9.0), limit=0.01) is None

    def test_a_golden_that_cannot_be_read_is_replaced_by_the_loss_of_the_ledger_alone(self) -> None:
        sentence = why_refused(None, moved(2.5), limit=0.01, last_loss=2.0)
        assert sentence is not None
        assert "from 2 to 2.5, a relative shift of +0.25, and at most 0.01" in sentence
        assert why_refused(None, moved(2.5), limit=0.01, last_loss=2.5) is None


class TestNoise:
    def test_what_was_measured_stays(self) -> None:
        assert with_noise_of(None, GOLDEN) is GOLDEN
        unsuited = replace(GOLDEN, probe=None, probe_noise=None)
        assert with_noise_of(None, unsuited) is unsuited

    def test_noise_of_the_golden_is_carried_over_and_marked(self) -> None:
        carried = with_noise_of(GOLDEN, plain())
        assert (carried.bit_stability, carried.probe_noise) == (PROVEN, NOISE)
        assert carried.provenance == {"reason": None, "noise_of": "2026-01-02T03:04:05+00:00"}

    def test_noise_that_was_carried_over_before_keeps_its_source(self) -> None:
        golden = replace(GOLDEN, provenance={"utc": "2026-02", "noise_of": "2026-01"})
        assert with_noise_of(golden, plain()).provenance["noise_of"] == "2026-01"

    def test_a_run_with_the_goldens_bits_has_the_goldens_reference(self) -> None:
        assert with_noise_of(GOLDEN, replace(plain(), probe=None)).probe is GOLDEN.probe

    def test_without_a_probe_on_either_side_bits_are_enough(self) -> None:
        golden = replace(GOLDEN, probe=None, probe_noise=None)
        assert with_noise_of(golden, plain(golden)).bit_stability == PROVEN

    @pytest.mark.parametrize(
        ("golden", "measured", "cause"),
        [
            (None, plain(), "there is no golden to take that from"),
            (plain(), plain(), "there is no golden to take that from"),
            (
                GOLDEN,
                changed_identity(plain(), ("windows", "bos"), "window"),
                "the golden's is that of another experiment (windows.bos is window, the golden has none)",
            ),
            (
                GOLDEN,
                replace(plain(), environment={**ENVIRONMENT, "version.torch": "2.10.0"}),
                (
                    "the golden's is that of another environment (version.torch is 2.10.0, the golden has 2.9.0), "
                    "where equal bits prove nothing about this one"
                ),
            ),
            (
                GOLDEN,
                replace(plain(), probe=None, scores=with_flipped_bit(tokens_of(GOLDEN), "nll", 0, 0)),
                "the golden's float32 reference is not computed as this one",
            ),
            (
                GOLDEN,
                replace(plain(), probe=replace(PROBE, version=2)),
                "the golden's float32 reference is not computed as this one",
            ),
        ],
    )
    def test_noise_of_something_else_is_refused(self, golden: Record | None, measured: Record, cause: str) -> None:
        with pytest.raises(AcceptanceError) as caught:
            with_noise_of(golden, measured)
        assert str(caught.value) == f"{PLAIN}{cause}; {MEASURE_IT}"

    def test_sums_of_blocks_keep_the_noise_where_their_bits_are_the_goldens(self) -> None:
        golden, measured = in_blocks(NOISY), in_blocks(plain(NOISY))
        carried = with_noise_of(golden, measured)
        assert carried.noise is golden.noise is not None
        assert carried.provenance["noise_of"] == NOISY.provenance["utc"]

    def test_sums_of_other_blocks_have_no_noise_to_carry_over(self) -> None:
        other = replace(tokens_of(NOISY), nll=tokens_of(NOISY).nll + np.float32(0.5))
        with pytest.raises(AcceptanceError) as caught:
            with_noise_of(in_blocks(NOISY), in_blocks(plain(replace(NOISY, scores=other))))
        assert str(caught.value) == (
            f"{PLAIN}the golden's is about tokens that this record, which keeps sums of blocks, has other bits of; "
            f"{MEASURE_IT}"
        )

    def test_a_probe_whose_noise_is_missing_is_of_a_plain_run(self) -> None:
        with pytest.raises(AcceptanceError, match="plain run"):
            with_noise_of(None, replace(GOLDEN, probe_noise=None))
