"""Manifests as runs leave them, and what is read of them."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from esa_pytest.report.chronicle import History
from esa_pytest.report.overview import Overview, overview
from esa_pytest.report.runs import Run, Unreadable, read_run
from tests.unit.ledger_builders import entry

REPORTED: dict[str, Any] = {
    "loss": 0.1826,
    "perplexity": 1.2004,
    "token_accuracy": 0.9688,
    "peak_vram_gib": 2.86,
    "tokens_per_second": 8507.4,
}
VERDICT: dict[str, Any] = {
    "tier": 3,
    "outcome": "semantic-drift",
    "reason": "the model computes something else",
    "would_have_caught": [],
    "changes": [],
    "environment": [{"name": "version.torch", "golden": "2.13.0", "measured": "2.14.0"}],
    "rows": [
        {"name": "mean_nll", "golden": 1.0, "measured": 1.5, "drift": 0.5, "allowed": 0.1, "source": "measured"},
        {"name": "top_k_mass", "golden": 0.9, "measured": 0.9, "drift": 0.0, "allowed": None, "source": "none"},
    ],
    "bits": {"num_compared": 4, "num_changed": 3, "mean": 1e-3, "rms": 2e-2, "maximum": 0.1},
    "reference": {
        "num_tokens": 4,
        "rms": 1e-3,
        "allowed_rms": 2e-5,
        "first_moved": "model.layers.1.mlp",
        "num_moved": 2,
        "num_points": 3,
        "modules": [["model.embed_tokens", 0.5], ["model.layers.1.mlp", 40.0], ["model.norm", None]],
    },
    "paired": {
        "statistics": [{"name": "rms", "noise": 0.01, "allowed": 0.05}],
        "positions": [
            {"label": "0-15", "num_tokens": 2, "num_changed": 1, "mean": 1e-3, "rms": 1e-2},
            {"label": "16-63", "num_tokens": 2, "num_changed": 2, "mean": -1e-3, "rms": 3e-2},
        ],
    },
}


def document(**parts: Any) -> dict[str, Any]:
    """The manifest of a run that passed."""
    return {
        "baseline": "tiny-smoke",
        "model": "tiny",
        "type": "smoke",
        "test_command": "pytest 'test_it.py::test_baseline[tiny-smoke]'",
        "reported": None,
        "device": "cpu",
        "state": "passed",
        "outcome": "identical",
        "reason": "4 of 4 token NLLs bit-equal",
        "advice": [],
        "verdict": {"tier": 2, "would_have_caught": ["any changed bit"]},
        "metrics": {"mean_nll": 1.0, "perplexity": 2.7182818, "token_accuracy": 0.5, "num_scored_tokens": 4},
        "text": {"num_bytes": 12, "bits_per_byte": 0.4809},
        "calibration": None,
        "reliability": [],
        "environment": {"version.torch": "2.13.0", "version.transformers": "5.23.0"},
        "provenance": {"utc": "2026-01-02T03:04:05+00:00", "git_sha": None, "git_dirty": False},
        "resources": {
            "throughput_tokens_per_second": 12345.6,
            "efficiency": 0.5,
            "rounds": 1,
            "peak_rss_bytes": 3 * 2**29,
        },
        "golden": None,
        "notes": [],
    } | parts


def drifted(**parts: Any) -> dict[str, Any]:
    """The manifest of a run that failed."""
    return document(
        **{
            "state": "failed",
            "outcome": "semantic-drift",
            "reason": VERDICT["reason"],
            "verdict": VERDICT,
            "advice": [
                {"text": "To find out which package did it:", "command": "esa bisect tiny-smoke"},
                {"text": "Mend it.", "command": None},
            ],
            **parts,
        }
    )


def unjudged(**parts: Any) -> dict[str, Any]:
    """The manifest of a run that came to no verdict."""
    whole = document(
        **{
            "device": None,
            "state": "skipped",
            "outcome": "HubUnreachableError",
            "reason": "The hub does not answer; connect to it.",
            "verdict": None,
            "metrics": None,
            **parts,
        }
    )
    late = ("advice", "text", "calibration", "reliability", "environment", "resources", "golden", "notes")
    return {name: value for name, value in whole.items() if name not in late or name in parts}


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A document with another value at a place."""
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


def run(content: dict[str, Any]) -> Run:
    """What is read of a manifest."""
    found = read_run(json.dumps(content).encode(), folder="tiny__smoke")
    assert isinstance(found, Run), found
    return found


def seen(*found: Run | Unreadable, histories: Sequence[History] = (), trouble: str | None = None) -> Overview:
    return overview(found, made="Made now", missing=(), histories=histories, ledger_trouble=trouble)


def walking() -> History:
    losses = [2.0 + 0.004 * step for step in range(8)]
    entries = [entry(losses[0]), *(entry(now, before) for before, now in itertools.pairwise(losses))]
    return History(name="tiny-smoke (cpu, float32)", entries=tuple(entries), golden_sha256=None, wanted=False)


HISTORY = walking()


# Half a character is no JSON.
hostile_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=https://a.invalid/x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "</style><script>",
        "</title><svg/onload=1>",
        "{{ 7 * 7 }}",
        "{% include '/etc/passwd' %}",
        "&lt;b&gt; &amp;",
        "javascript:alert(1)",
        "$\\frac{1}{$",
        "\x00\x1b[31m",
        "\u202e\u2066",
        "a|b`c`*d*\n# e",
        "<!--",
        "]]>",
        "_private",
    ]
)
