import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_pytest.baselines.windows import full_windows, rolling_windows
from esa_pytest.records import Window


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, int]:
    bos = draw(st.booleans())
    context_length = draw(st.integers(1 + bos, 40))
    return {
        "length": draw(st.integers(0, 300)),
        "context_length": context_length,
        "stride": draw(st.integers(1, context_length)),
        "bos": bos,
    }


def windows_of(shape: dict[str, int]) -> list[Window]:
    return list(
        rolling_windows(
            length=shape["length"],
            context_length=shape["context_length"],
            stride=shape["stride"],
            bos=bool(shape["bos"]),
        )
    )


def full_windows_of(shape: dict[str, int]) -> list[Window]:
    return full_windows(
        length=shape["length"],
        context_length=shape["context_length"],
        stride=shape["stride"],
        bos=bool(shape["bos"]),
    )


def input_length(window: Window, shape: dict[str, int]) -> int:
    return window.score_end - 1 - window.context_begin + shape["bos"]


@given(shapes())
def test_each_scorable_token_is_scored_once_and_in_order(shape: dict[str, int]) -> None:
    scored = [token for w in windows_of(shape) for token in range(w.score_begin, w.score_end)]
    assert scored == list(range(0 if shape["bos"] else 1, shape["length"]))


@given(shapes())
def test_no_input_is_longer_than_the_context(shape: dict[str, int]) -> None:
    assert all(1 <= input_length(window, shape) <= shape["context_length"] for window in windows_of(shape))


@given(shapes())
def test_each_target_is_predicted_from_at_least_one_token_of_its_window(shape: dict[str, int]) -> None:
    for window in windows_of(shape):
        inputs_before_first_target = window.score_begin - window.context_begin + shape["bos"]
        assert inputs_before_first_target >= 1
        assert window.context_begin >= 0


@given(shapes())
def test_no_context_is_wasted(shape: dict[str, int]) -> None:
    for window in windows_of(shape):
        assert window.context_begin == 0 or input_length(window, shape) == shape["context_length"]


@given(shapes())
def test_first_window_scores_a_whole_context_and_later_ones_a_stride(shape: dict[str, int]) -> None:
    windows = windows_of(shape)
    if len(windows) > 1:
        assert windows[0].num_scored == shape["context_length"]
        assert {window.num_scored for window in windows[1:-1]} <= {shape["stride"]}
        assert 1 <= windows[-1].num_scored <= shape["stride"]


@given(shapes())
def test_full_windows_have_one_shape(shape: dict[str, int]) -> None:
    for window in full_windows_of(shape):
        assert window.num_scored == shape["stride"]
        assert input_length(window, shape) == shape["context_length"]


@given(shapes())
def test_full_windows_leave_out_the_odd_first_and_the_rest_only(shape: dict[str, int]) -> None:
    windows = windows_of(shape)
    middle = windows[1:-1] if shape["stride"] < shape["context_length"] else windows[:-1]
    full = full_windows_of(shape)
    assert full[: len(middle)] == middle
    assert set(full[len(middle) :]) <= set(windows[-1:])


def test_windows_are_those_of_the_drawing() -> None:
    without = rolling_windows(length=9, context_length=4, stride=4, bos=False)
    assert list(without) == [
        Window(context_begin=0, score_begin=1, score_end=5),
        Window(context_begin=4, score_begin=5, score_end=9),
    ]
    with_bos = rolling_windows(length=5, context_length=4, stride=4, bos=True)
    assert list(with_bos) == [
        Window(context_begin=0, score_begin=0, score_end=4),
        Window(context_begin=1, score_begin=4, score_end=5),
    ]
    overlapping = rolling_windows(length=7, context_length=4, stride=2, bos=False)
    assert list(overlapping) == [
        Window(context_begin=0, score_begin=1, score_end=5),
        Window(context_begin=2, score_begin=5, score_end=7),
    ]


@pytest.mark.parametrize("length", [0, 1])
def test_text_without_a_scorable_token_has_no_window(length: int) -> None:
    assert list(rolling_windows(length=length, context_length=4, stride=4, bos=False)) == []


@pytest.mark.parametrize(
    ("context_length", "stride", "bos"),
    [(0, 1, False), (-3, 1, False), (1, 1, True), (4, 0, False), (4, -1, False), (4, 5, False), (4, 5, True)],
)
def test_shapes_that_make_no_windows_are_refused(context_length: int, stride: int, *, bos: bool) -> None:
    with pytest.raises(ValueError, match=f"context length {context_length} and stride {stride}"):
        list(rolling_windows(length=10, context_length=context_length, stride=stride, bos=bos))
