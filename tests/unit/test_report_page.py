"""The page of a report: what stands in it, and that no text of a record becomes markup, a request, or a traceback."""

import functools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings

from esa_pytest.report.digest import digest_lines
from esa_pytest.report.page import ReportExtraMissingError, html_page
from esa_pytest.report.runs import Run, Unreadable
from tests.unit.run_builders import HISTORY, REPORTED, document, drifted, hostile_texts, replaced, run, seen, unjudged

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Skeleton(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(*found: Run | Unreadable, **more: Any) -> str:
    return html_page(seen(*found, **more)).decode()


def text_of(page: str) -> str:
    return " ".join(" ".join(Skeleton(page).text).split())


def everything(text: str) -> tuple[Run | Unreadable, ...]:
    """Runs of every kind with a text wherever a text may stand, and no figure."""
    quiet = {"verdict": {**drifted()["verdict"], "paired": None, "reference": None}}
    quiet["verdict"] |= {
        "would_have_caught": [text],
        "changes": [{"name": text, "golden": text, "measured": None}],
        "environment": [{"name": text, "golden": text, "measured": text}],
        "rows": [{"name": text, "golden": 1, "measured": 1, "drift": 0, "allowed": 1, "source": text}],
    }
    names = dict.fromkeys(("baseline", "model", "type", "test_command", "outcome", "reason"), text)
    failed = drifted(
        **quiet,
        **names,
        device=text,
        advice=[{"text": text, "command": text}],
        notes=[text],
        environment={"version.torch": text},
        provenance={"utc": text},
        golden={"utc": text, "resources": {"efficiency": text}},
        resources={text: 1.0, "clock": text, f"peak_{text}": 1.0},
    )
    return (run(failed), run(unjudged(**names)), Unreadable(folder=text, cause=text))


class TestNoTextBecomesMarkup:
    @settings(max_examples=25, deadline=None)
    @given(hostile_texts)
    def test_a_page_has_the_same_elements_whatever_its_records_say(self, text: str) -> None:
        # Texts that are empty leave their places out.
        text = f"x{text}"
        plain, other = plain_skeleton(), Skeleton(page(*everything(text)))
        assert other.elements == plain.elements
        assert other.open == plain.open == []
        printable = "".join(character if character.isprintable() else " " for character in text)
        assert printable in "".join(other.text)

    @settings(max_examples=40, deadline=None)
    @given(hostile_texts)
    def test_markdown_has_the_same_lines_and_cells(self, text: str) -> None:
        text = f"x{text}"
        plain, other = (digest_lines(seen(*everything(one))) for one in ("x", text))
        assert len(other) == len(plain)
        for ours, theirs in zip(other, plain, strict=True):
            assert "\n" not in ours
            bare = re.sub(r"\\.", "", ours)
            # In a line of HTML it parts nothing.
            assert theirs.startswith("<details>") or bare.count("|") == theirs.count("|")
            assert [tag[0] for tag in re.findall(r"(<[^>]*>)", bare)] == ["<" for _ in re.findall(r"<[^>]*>", theirs)]

    def test_half_a_character_in_the_name_of_a_folder_is_no_trouble(self) -> None:
        torn = Unreadable(folder="\udc80", cause="EOF")
        assert "unreadable" in page(torn)
        assert digest_lines(seen(torn))


@functools.cache
def plain_skeleton() -> Skeleton:
    return Skeleton(page(*everything("x")))


NUMBERS = (
    ("text", "bits_per_byte"),
    ("verdict", "reference", "modules", 1, 1),
    ("verdict", "paired", "positions", 1, "rms"),
    ("verdict", "paired", "statistics", 0, "noise"),
    ("reliability", 0, "confidence"),
    ("reliability", 0, "num_tokens"),
)


class TestDamagedNumbers:
    @pytest.mark.parametrize("value", [0, 1e308, -1e308, 1e99])
    @pytest.mark.parametrize("path", NUMBERS, ids=lambda path: path[-2] if path[-1] == 1 else path[-1])
    def test_no_number_is_too_much_for_a_picture(self, path: tuple[str | int, ...], value: float) -> None:
        whole = drifted(reliability=[{"num_tokens": 3, "confidence": 0.5, "accuracy": 0.5}])
        content = replaced(whole, path, int(min(abs(value), 2**52)) if path[-1] == "num_tokens" else value)
        found = page(run(content), run(document(baseline="other-smoke", model="other")))
        assert "<svg" in found
        assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", found, re.DOTALL)).lower()

    def test_what_is_beyond_any_scale_is_no_number(self) -> None:
        metrics = document()["metrics"] | {"perplexity": 1e300}
        read = run(document(metrics=metrics)).metrics
        assert read is not None
        assert read.perplexity is None


class TestPage:
    def test_it_asks_nobody_for_anything(self) -> None:
        found = page(run(drifted(reported=REPORTED)), run(document(baseline="other-smoke", model="other")))
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', found)
        assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
        elements = Skeleton(found).elements
        assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in elements}
        asking = [value for value in Skeleton(found).values if re.match(r"(\w+:|//)", value) and "://" in value]
        assert set(asking) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "@import" not in found
        assert set(re.findall(r"url\((.)", found)) <= {"#"}

    def test_failures_come_first_with_tier_reason_and_remedy(self) -> None:
        torn = Unreadable(folder="torn__smoke", cause="EOF")
        text = text_of(page(run(document()), run(unjudged(baseline="a-smoke")), torn, run(drifted(baseline="z-smoke"))))
        parts = [
            "1 failed",
            "1 broken",
            "1 not judged",
            "1 passed",
            "failed z-smoke (cpu) semantic-drift , decided by tier 3 (reference)",
            "The model computes something else.",
            "To find out which package did it: esa bisect tiny-smoke",
            "broken torn__smoke unreadable",
            "Its manifest cannot be read (EOF); run the baseline again, or fetch its folder anew.",
            "not judged a-smoke HubUnreachableError The hub does not answer; connect to it.",
            "passed tiny-smoke (cpu) identical 4 of 4 token NLLs bit-equal.",
        ]
        places = [text.find(part) for part in parts]
        assert -1 not in places, dict(zip(parts, places, strict=True))
        assert places == sorted(places)

    def test_every_table_has_headers_and_every_picture_a_name(self) -> None:
        found = page(run(drifted(reported=REPORTED)))
        elements = Skeleton(found).elements
        headers = [names for tag, names in elements if tag == "th"]
        assert headers
        assert all("scope" in names for names in headers)
        pictures = [names for tag, names in elements if tag == "svg"]
        assert len(pictures) == 2
        assert all("aria-label" in names for names in pictures)

    def test_sections_without_anything_are_left_out(self) -> None:
        overviewed = seen(run(unjudged()))
        assert overviewed.sections == ()
        everything_there = seen(
            run(drifted(reported=REPORTED, reliability=[{"num_tokens": 1, "confidence": 0.5, "accuracy": 1.0}])),
            histories=[HISTORY],
        )
        assert [section.slug for section in everything_there.sections] == [
            "models",
            "reported",
            "positions",
            "modules",
            "calibration",
            "resources",
            "history",
        ]

    def test_what_the_matrix_has_and_no_run_left_is_named(self) -> None:
        overviewed = replace(seen(run(document())), missing=("a-smoke", "b-standard"))
        assert "Of the matrix, these left nothing here: a-smoke, b-standard." in text_of(html_page(overviewed).decode())

    def test_without_matplotlib_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "esa_pytest.report.drawing", None)
        with pytest.raises(ReportExtraMissingError, match=r"pip install 'esa-pytest\[report\]', or ask for Markdown"):
            page(run(document()))


def test_what_markdown_folds_away_has_its_names_without_backslashes() -> None:
    modules = [["model.layers.1.self_attn", 40.0]]
    content = replaced(drifted(baseline="tiny_x-smoke"), ("verdict", "reference", "modules"), modules)
    folded = [line for line in digest_lines(seen(run(content))) if line.startswith("<details>")]
    assert folded[0] == "<details><summary>tiny_x-smoke (cpu): semantic-drift</summary>"
    assert folded[-1].endswith("the first of 1 that moved is model.layers.1.self_attn.</summary>")


def test_markdown_tells_the_same_with_its_remark() -> None:
    lines = digest_lines(seen(run(drifted(reported=REPORTED)), run(document(baseline="b-smoke")), trouble="Torn."))
    assert lines[0] == "## Baselines: 1 failed · 1 passed"
    assert lines[6].startswith("| ✗ failed | tiny-smoke (cpu) | semantic-drift | tier 3 (reference) | The model ")
    assert "To find out which package did it: <code>esa bisect tiny-smoke</code>" in lines
    assert any("on a short paragraph repeated to fill the window" in line for line in lines)
    assert "**Warning**: Torn." in lines
    assert json.dumps(lines)
