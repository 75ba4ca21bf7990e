"""Everything that decides a verdict and can be known before a model is loaded, as flat named strings.

Two equal keys stand for the same question, so that the earlier answer holds. What is in doubt is part of the key: a
key too many costs a second judgement, a key too few would hide a change.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields

import torch

from esa_pytest.baselines.catalog import Baseline
from esa_pytest.baselines.sources import DatasetCorpus, FileCorpus
from esa_pytest.evaluation.checkpoints import Checkpoint
from esa_pytest.evaluation.loading import resolve_device
from esa_pytest.golden.environment import device_facts, variables, versions
from esa_pytest.resume.states import code_state, files_sha256
from esa_pytest.settings import Settings

_HASHES = ("code", "test", "golden", "baseline", "text.", "model.")
_SHOWN_CHANGES = 4


def key_of(
    baseline: Baseline,
    settings: Settings,
    *,
    checkpoint: Checkpoint,
    golden: str,
    test: str,
    updates: Mapping[str, bool],
) -> dict[str, str]:
    """The key of one test's verdict.

    Args:
        baseline: what is judged.
        settings: the session's.
        checkpoint: what its model's files are now, or were when they were loaded.
        golden: as `golden_state` gives it.
        test: as `source_state` gives it.
        updates: syrupy's flags, by name.

    Raises:
        DeviceError: the device that was asked for is not there.
    """
    found = {
        "code": code_state(),
        "test": test,
        "golden": golden,
        "baseline": _sha256(baseline.model_dump_json().encode()),
        "model.weights": checkpoint.weights_sha256,
        "model.tokenizer": checkpoint.tokenizer_sha256,
        # The tokenizer's hash is over its vocabulary, the config's over what describes the model: a BOS, a class of
        # tokenizers, or the release that wrote them may be read from elsewhere.
        "model.files": checkpoint.read_files_sha256,
        "model.config": _sha256(json.dumps(checkpoint.config, sort_keys=True).encode()),
        **{f"text.{name}": _text(source) for name, source in baseline.corpora.items()},
        **_settings(settings, updates),
        **variables(),
        **versions(baseline.packages),
        **device_facts(resolve_device(settings.device)),
        "devices": ", ".join(sorted(_devices())),
    }
    return dict(sorted(found.items()))


def why_again(old: Mapping[str, str], new: Mapping[str, str]) -> str | None:
    """What changed between two keys, as a clause; None where they are equal."""
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if not changed:
        return None
    # What was hashed is told first: it says more than a version that may have come with it.
    changed.sort(key=lambda name: not name.startswith(_HASHES))
    shown = [_change(name, old, new) for name in changed[:_SHOWN_CHANGES]]
    more = len(changed) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _change(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    if name.startswith(_HASHES):
        return f"{name} changed"
    return f"{name} {old.get(name, '(none)')} -> {new.get(name, '(none)')}"


def _settings(settings: Settings, updates: Mapping[str, bool]) -> dict[str, str]:
    """The settings that a verdict, or what is recorded, depends on; every rule is one of them."""
    found = {
        "device": settings.device,
        "rounds": settings.rounds,
        "calibrate": settings.calibrate,
        **{rule.name: getattr(settings.rules, rule.name) for rule in fields(settings.rules)},
        "accept_limit": settings.accept_limit,
        "force": settings.force,
        **updates,
    }
    return {f"setting.{name}": _plain(value) for name, value in found.items()}


def _plain(value: object) -> str:
    return json.dumps(dict(value), sort_keys=True) if isinstance(value, Mapping) else str(value)


def _text(source: object) -> str:
    """What is known of a corpus' content without reading the hub: the others are pinned in the catalog."""
    if isinstance(source, FileCorpus):
        return files_sha256([source.path])
    if isinstance(source, DatasetCorpus) and source.path is not None:
        files = sorted(path for path in source.path.rglob("*") if path.is_file())
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return _sha256(json.dumps(states).encode())
    return "pinned"


def _devices() -> list[str]:
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_properties(index).name for index in range(torch.cuda.device_count())]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
