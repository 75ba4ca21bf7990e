"""Rows of a sweep: read back as written, ranked, and laid out by layer and matrix."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.errors import SweepError
from esa_pytest.sensitivity.ranking import grid_of, ranked, ranking_lines
from esa_pytest.sensitivity.rows import COLUMNS, Row, RowFile, read_rows

ROW = Row(
    label="zero model.layers.1.mlp.down_proj.weight[3, 17]",
    layer=1,
    parameter="model.layers.1.mlp.down_proj.weight",
    num_changed=1,
    before=0.25,
    after=0.0,
    finite=True,
    mean_nll=0.01,
    mean_nll_error=0.002,
    perplexity=0.4,
    token_accuracy=-0.001,
    rms=0.05,
    maximum=0.7,
    reference_rms=3e-4,
    first_moved="model.layers.1.mlp",
    seen_by="exact reference",
)
IDENTITY = {"baseline": "tiny-smoke", "weights": "ab"}
rows = st.builds(
    Row,
    label=st.text(st.characters(exclude_categories=["C"]), min_size=1),
    layer=st.integers(-1, 200),
    parameter=st.text(st.characters(exclude_categories=["C"])),
    num_changed=st.integers(0, 2**40),
    first_moved=st.sampled_from(["", "model.layers.1.mlp"]),
    seen_by=st.sampled_from(["", "exact", "exact reference paired"]),
    finite=st.booleans(),
    **{name: st.floats() for name in COLUMNS if Row.__annotations__[name] is float},
)


def row(layer: int, matrix: str, mean_nll: float, *, finite: bool = True) -> Row:
    parameter = f"model.layers.{layer}.{matrix}.weight"
    return replace(ROW, label=parameter, layer=layer, parameter=parameter, mean_nll=mean_nll, finite=finite)


@given(written=st.lists(rows, max_size=4))
def test_rows_are_read_back_as_they_were_written(written: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = RowFile(tmp_path_factory.mktemp("rows") / "rows.csv", IDENTITY)
    assert file.resume() == []
    for each in written:
        file.append(each)
    # NaN is not equal to itself, and is read as what it is.
    assert str(file.resume()) == str(written)


@given(cut=st.integers(0, 400))
def test_whatever_a_kill_leaves_is_taken_up(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    file = RowFile(path, IDENTITY)
    file.resume()
    for number in range(2):
        file.append(replace(ROW, num_changed=number))
    text = path.read_text(encoding="utf-8")
    header = text.index("\n") + 1
    kept = text[: max(header, len(text) - cut)]
    path.write_text(kept, encoding="utf-8")
    found = file.resume()
    assert [each.num_changed for each in found] == list(range(kept.count("\n") - 1))
    assert path.read_text(encoding="utf-8").endswith("\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no file of a sweep"),
        ("a,b\n1,2\n", "its first line is not its columns"),
        (f"{','.join(COLUMNS)}\n1,2\n", "Line 2 of .* is no row"),
        (f"{','.join(COLUMNS)}\n{','.join(['x'] * len(COLUMNS))}\n", "Line 2 of .* is no row"),
    ],
)
def test_what_is_no_sweep_is_refused(text: str, message: str) -> None:
    with pytest.raises(SweepError, match=message):
        read_rows(text, origin=Path("rows.csv"))


def test_ranking_counts_both_directions_and_what_is_not_finite_first() -> None:
    swept = [row(0, "a", 0.1), row(1, "a", -0.3), row(2, "a", math.nan, finite=False), row(3, "a", 0.2)]
    assert [each.layer for each in ranked(swept)] == [2, 1, 3, 0]
    lines = ranking_lines(swept, most=2)
    assert len(lines) == 3
    assert "not finite" in lines[1]
    assert "-0.3 ±0.002" in lines[2]


def test_grid_holds_the_largest_effect_of_each_place() -> None:
    outside = replace(ROW, layer=-1, parameter="model.norm.weight", mean_nll=9.0)
    grid = grid_of([row(2, "mlp.up", 0.1), row(0, "attn.q", -0.3), row(2, "mlp.up", -0.2), outside])
    assert grid.layers == (0, 2)
    assert grid.matrices == ("attn.q", "mlp.up")
    np.testing.assert_array_equal(grid.values, [[0.3, np.nan], [np.nan, 0.2]])
    assert np.isinf(grid_of([row(0, "a", math.nan, finite=False), row(0, "a", 0.1)]).values).all()


def test_grid_has_a_column_for_what_is_no_single_matrix() -> None:
    whole = [replace(ROW, label=str(layer), layer=layer, parameter="all matrices", mean_nll=0.5) for layer in (0, 2)]
    grid = grid_of([row(0, "attn.q", -0.3), *whole])
    assert grid.matrices == ("attn.q", "all matrices")
    np.testing.assert_array_equal(grid.values, [[0.3, 0.5], [np.nan, 0.5]])
