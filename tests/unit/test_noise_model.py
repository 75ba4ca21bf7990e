"""What is learned where harmless changes happened to move next to nothing."""

from dataclasses import replace

import pytest

from esa_pytest.drift.aggregate import metric_rows
from esa_pytest.drift.noise_model import NoiseModel
from esa_pytest.records import Metrics, Record
from tests.unit.noise_builders import noisy_golden

GOLDEN = noisy_golden()
assert GOLDEN.noise is not None


def with_variants(**changes: object) -> Record:
    """The golden whose variants all share some values."""
    assert GOLDEN.noise is not None
    variants = tuple(replace(variant, **changes) for variant in GOLDEN.noise.variants)  # type: ignore[arg-type]
    return replace(GOLDEN, noise=replace(GOLDEN.noise, variants=variants))


def model_of(golden: Record) -> NoiseModel:
    assert golden.noise is not None
    return NoiseModel(golden.noise, golden.probe)


@pytest.mark.parametrize("scale", [1, 200])
def test_accuracy_that_never_moved_may_move_by_some_tokens_of_the_noise(scale: int) -> None:
    """Of a sample in which nothing flipped, however long the run is that was sampled."""
    golden = with_variants(correct_drift=0)
    tokens = scale * model_of(golden).num_tokens
    metrics = Metrics(nll_sum=2.0 * tokens, num_scored_tokens=tokens, num_correct_tokens=tokens // 2)
    golden = replace(golden, metrics=metrics)
    allowed = {row.name: row.allowed for row in metric_rows(golden, golden, model_of(golden))}["token_accuracy"]
    assert allowed is not None
    assert 1 <= allowed * model_of(golden).num_tokens < 10


def test_accuracy_that_moved_is_judged_by_how_far() -> None:
    moved = model_of(with_variants(correct_drift=40)).accuracy
    assert moved.spread == 40 / model_of(GOLDEN).num_tokens


def test_one_change_of_no_divergence_leaves_the_instrument() -> None:
    assert GOLDEN.noise is not None
    first, *others = GOLDEN.noise.variants
    quiet = replace(GOLDEN.noise, variants=(replace(first, kl_top=0.0), *others))
    assert NoiseModel(quiet, GOLDEN.probe).log_kl is not None
    unknown = replace(GOLDEN.noise, variants=(replace(first, kl_top=None), *others))
    assert NoiseModel(unknown, GOLDEN.probe).log_kl is None
