"""Whether transformers knows a model's architecture by itself."""

import json
from pathlib import Path

from esa_pytest.errors import CheckpointError, RemoteCodeError


def refuse_foreign_code(name: str, config: Path) -> None:
    """Check that a model can be built without code of its own.

    Args:
        name: the model, for messages.
        config: its config.json.

    Raises:
        RemoteCodeError: it brings code along that transformers would have to run.
        CheckpointError: transformers does not know its architecture.
    """
    import transformers

    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        known = content["model_type"] in transformers.CONFIG_MAPPING
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # what reads the config next says what is wrong with it
    if known:
        return
    if content.get("auto_map"):
        raise RemoteCodeError(
            f"The model {name} needs code of its own: transformers {transformers.__version__} does not know the "
            f"architecture {content['model_type']!r}, and code from a repository is never run; use a model or a "
            f"release of transformers that does without."
        )
    raise CheckpointError(
        f"The model {name} has the architecture {content['model_type']!r}, which transformers "
        f"{transformers.__version__} does not know; upgrade transformers, or correct its config.json."
    )
