"""The noise of a golden, and the likeliest tokens of its sample, as arrays of its side file, and back."""

from typing import Any

import numpy as np

from esa_pytest.errors import GoldenError
from esa_pytest.golden.part_arrays import Arrays, Shape, refuse_malformed
from esa_pytest.golden.schema import NoisePart, TopPart
from esa_pytest.records import Noise, TopProbabilities, Variant


def noise_part(noise: Noise | None) -> dict[str, Any] | None:
    """What the JSON says of the noise."""
    if noise is None:
        return None
    return {
        "distinct_bit_patterns": noise.distinct_bit_patterns,
        "num_tokens": int(noise.nll.size),
        "num_windows": int(noise.windows.size),
        "untried": list(noise.untried),
        "variants": [
            {
                "calibration": dict(variant.calibration),
                "context": dict(variant.context),
                "correct_drift": variant.correct_drift,
                "kl_top": variant.kl_top,
                "name": variant.name,
                "num_top1_flips": variant.num_top1_flips,
            }
            for variant in noise.variants
        ],
    }


def noise_arrays(noise: Noise | None) -> Arrays:
    """What the side file holds of the noise."""
    if noise is None:
        return {}
    drifts = [variant.drift for variant in noise.variants]
    return {
        "noise_drift": np.stack(drifts) if drifts else np.zeros((0, noise.nll.size), dtype=np.float16),
        "noise_nll": noise.nll,
        "noise_position": noise.position,
        "noise_window": noise.window,
        "noise_windows": noise.windows,
    }


def is_finite(noise: Noise | None, top: TopProbabilities | None) -> bool:
    """Whether every number of the two is finite, as the reader of a golden demands."""
    variants = () if noise is None else noise.variants
    values = [value for variant in variants for value in (variant.kl_top or 0.0, *variant.calibration.values())]
    values += [value for variant in variants for value in variant.context.values()]
    arrays = (noise_arrays(noise) | top_arrays(top)).values()
    return all(bool(np.isfinite(array).all()) for array in (*arrays, np.array(values, dtype=np.float64)))


def read_noise(part: NoisePart | None, arrays: Arrays, *, name: str) -> Noise | None:
    """The noise of a golden.

    Args:
        part: what its JSON says.
        arrays: those of its side file whose names begin with `noise_`.
        name: what the golden is called in a message.

    Raises:
        GoldenError: an array is not what it should be.
    """
    if part is None:
        refuse_malformed(arrays, {}, part="noise", name=name)
        return None
    tokens, variants = (part.num_tokens,), len(part.variants)
    refuse_malformed(
        arrays,
        {
            "noise_drift": (np.float16, (variants, part.num_tokens)),
            "noise_nll": (np.float32, tokens),
            "noise_position": (np.int32, tokens),
            "noise_window": (np.int32, tokens),
            "noise_windows": (np.int32, (part.num_windows,)),
        },
        part="noise",
        name=name,
    )
    return Noise(
        windows=arrays["noise_windows"],
        nll=arrays["noise_nll"],
        position=arrays["noise_position"],
        window=arrays["noise_window"],
        variants=tuple(
            Variant(drift=drift, **variant.model_dump())
            for variant, drift in zip(part.variants, arrays["noise_drift"], strict=True)
        ),
        distinct_bit_patterns=part.distinct_bit_patterns,
        untried=part.untried,
    )


def top_part(top: TopProbabilities | None) -> dict[str, Any] | None:
    """What the JSON says of the likeliest tokens."""
    return None if top is None else {"num_likeliest": int(top.ids.shape[1]), "num_tokens": int(top.token.size)}


def top_arrays(top: TopProbabilities | None) -> Arrays:
    """What the side file holds of them."""
    if top is None:
        return {}
    return {"top_ids": top.ids, "top_log_probability": top.log_probability, "top_token": top.token}


def read_top(part: TopPart | None, arrays: Arrays, *, num_scored: int, name: str) -> TopProbabilities | None:
    """The likeliest tokens of a golden's sample.

    Args:
        part: what its JSON says.
        arrays: those of its side file whose names begin with `top_`.
        num_scored: how many tokens it scores.
        name: what the golden is called in a message.

    Raises:
        GoldenError: an array is not what it should be.
    """
    if part is None:
        refuse_malformed(arrays, {}, part="likeliest tokens", name=name)
        return None
    each = (part.num_tokens, part.num_likeliest)
    expected: dict[str, tuple[type[np.generic], Shape]] = {
        "top_ids": (np.int32, each),
        "top_log_probability": (np.float32, each),
        "top_token": (np.int32, (part.num_tokens,)),
    }
    refuse_malformed(arrays, expected, part="likeliest tokens", name=name)
    token = arrays["top_token"]
    if (token < 0).any() or (token >= num_scored).any() or (token[1:] <= token[:-1]).any():
        raise GoldenError(f"The golden {name} is damaged: its array top_token does not ascend within its tokens.")
    return TopProbabilities(token=token, ids=arrays["top_ids"], log_probability=arrays["top_log_probability"])
