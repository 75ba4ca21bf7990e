"""The long context in a golden: what is kept is what is read, and nothing else is accepted."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from esa_pytest.errors import GoldenError
from esa_pytest.golden.packing import pack, unpack
from esa_pytest.records import LongContext
from tests.unit.builders import NAME, NPZ_NAME, joined, npz_members, npz_of, packed, resealed, small_record
from tests.unit.context_builders import CONTEXT, contexts, with_context
from tests.unit.trees import placed

GOLDEN = with_context(small_record())
DOCUMENT, NPZ = packed(GOLDEN)


def comparable(context: LongContext | None) -> Any:
    assert context is not None
    scores = {name: (str(a.dtype), a.tobytes()) for name, a in sorted(vars(context.scores).items())}
    return repr({**asdict(replace(context, scores=())), "scores": scores})  # type: ignore[arg-type]


@settings(max_examples=30)
@given(context=contexts)
def test_what_is_kept_is_what_is_read(context: LongContext) -> None:
    data = pack(replace(GOLDEN, context=context), npz_name=NPZ_NAME)
    assert comparable(unpack(data, name=NAME).context) == comparable(context)


def test_a_record_without_one_keeps_none() -> None:
    document, npz = packed(small_record())
    assert document["context"] is None
    assert not [name for name in npz_members(npz) if name.startswith("context_")]


@pytest.mark.parametrize("path", [("context", "gain", "nats"), ("context", "context_length")])
def test_a_hand_edit_is_named(path: tuple[str, ...]) -> None:
    with pytest.raises(GoldenError, match=rf"edited by hand in its field {'.'.join(path)}"):
        unpack(joined(placed(DOCUMENT, path, 7), NPZ), name=NAME)


def test_a_part_of_another_kind_is_refused() -> None:
    with pytest.raises(GoldenError, match=r"not valid in its field context\.gain"):
        unpack(joined(placed(DOCUMENT, ("context", "gain"), None), NPZ), name=NAME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m | {"context_nll": m["context_nll"][:-1]},
            r"context_nll is float32\[3\], expected is float32\[4\]",
        ),
        (lambda m: m | {"context_nll": np.full(4, np.nan, dtype=np.float32)}, "context_nll is not finite"),
        (lambda m: m | {"context_target": m["context_target"].astype(np.int64)}, r"context_target is int64\[4\]"),
        (lambda m: {k: v for k, v in m.items() if k != "context_argmax"}, "of its long context it holds the arrays"),
        (lambda m: m | {"context_more": m["context_nll"]}, "of its long context it holds the arrays"),
    ],
)
def test_other_arrays_are_refused(change: Any, message: str) -> None:
    with pytest.raises(GoldenError, match=message):
        unpack(resealed(DOCUMENT, npz_of(change(npz_members(NPZ)))), name=NAME)


def test_arrays_without_their_part_are_refused() -> None:
    document, npz = packed(small_record())
    extra = npz_members(npz) | {"context_nll": CONTEXT.scores.nll}
    with pytest.raises(GoldenError, match="of its long context it holds the arrays"):
        unpack(resealed(document, npz_of(extra)), name=NAME)
