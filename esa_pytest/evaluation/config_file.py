"""Read a checkpoint's config.json, and refuse one that leads transformers to other files than those that are hashed."""

import json
import reprlib
from pathlib import Path
from typing import Any

from esa_pytest.errors import CheckpointError

# What names the software that wrote a config and not the model.
VOLATILE_CONFIG_KEYS = ("transformers_version", "_name_or_path", "_model_name_or_path")
# The weights' file, a pickle among what it may be, and files that are read in place of config.json.
_ELSEWHERE = ("transformers_weights", "configuration_files")


def read_config(path: Path) -> dict[str, Any]:
    """A checkpoint's config.json without what names the software that wrote it.

    Args:
        path: of the file.

    Raises:
        CheckpointError: it is not there or damaged, or names other files than those that are hashed.
    """
    try:
        # Some models' limits are Infinity there, which the JSON of a golden has no number for.
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=str)
    except FileNotFoundError:
        raise CheckpointError(f"There is no {path.name} in {path.parent}; is it a transformers checkpoint?") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); put the model's config there.") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}); fetch it anew.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is no JSON object but a {type(config).__name__}; fetch it anew.")
    _refuse_elsewhere(path, config)
    return {key: value for key, value in config.items() if key not in VOLATILE_CONFIG_KEYS}


def _refuse_elsewhere(path: Path, config: dict[str, Any]) -> None:
    # At any depth, and as a value too: of a config within another transformers may take the inner one alone, and an
    # attribute_map gives an entry another name.
    pending: list[Any] = [config]
    while pending:
        entry = pending.pop()
        if isinstance(entry, list):
            pending.extend(entry)
        elif isinstance(entry, dict):
            for key, value in entry.items():
                if (key in _ELSEWHERE and value) or value in _ELSEWHERE:
                    raise CheckpointError(
                        f"{path} holds {key!r}: {reprlib.repr(value)}, by which transformers may load other files than "
                        f"those that are hashed here; remove it, and let the weights be model.safetensors."
                    )
            pending.extend(entry.values())
