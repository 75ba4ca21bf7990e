"""The model hub: asked once whether it answers, and for nothing but the files of a pinned commit.

A pinned commit never changes, so what is in the hub's cache needs no network at all.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esa_pytest.baselines.sources import HubModel
from esa_pytest.errors import (
    CheckpointError,
    EsaError,
    GatedModelError,
    HubUnreachableError,
    ModelUnavailableError,
    RevisionMissingError,
    UnsafeWeightsError,
)
from esa_pytest.evaluation.architectures import refuse_foreign_code
from esa_pytest.evaluation.config_file import read_config
from esa_pytest.evaluation.hashing import INDEX_FILE, TOKENIZER_FILES, tokenizer_files, weight_files

# All that is loaded: nothing that would have to be unpickled or executed, and no second copy of the weights in another
# layout (consolidated.safetensors) or dtype (model.fp16.safetensors).
FILES = (
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors-*.safetensors",
    INDEX_FILE,
    "config.json",
    "generation_config.json",
    *TOKENIZER_FILES,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
)
PATIENCE_SECONDS = 2.0
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")


class Hub:
    """The hub as one session sees it."""

    def __init__(self) -> None:
        self._asked = False
        self._reason: str | None = None

    def unreachable_reason(self) -> str | None:
        """Why the hub cannot be used, as a clause, or None where it answers; found out once, within two seconds."""
        if not self._asked:
            self._reason = _why_unreachable()
            self._asked = True
        return self._reason

    def snapshot(self, model: HubModel) -> Path:
        """The checkpoint folder of a hub model, from the hub's cache or fetched into it.

        Raises:
            HubUnreachableError: it is not in the cache and the hub cannot be used.
            GatedModelError: the hub wants a token or a consent.
            RevisionMissingError: there is no such repository or commit.
            UnsafeWeightsError: it holds pickled weights only.
            RemoteCodeError: it needs code that transformers does not have.
        """
        if (folder := cached_snapshot(model)) is not None:
            return folder
        if reason := self.unreachable_reason():
            raise HubUnreachableError(
                f"The model {model.repo} at {model.revision[:12]} is not in the hub's cache, and {reason}; "
                f"connect to the hub, or bring the cache from a machine that can (HF_HUB_CACHE)."
            )
        return _fetched(model)


def cached_snapshot(model: HubModel) -> Path | None:
    """The checkpoint folder in the hub's cache, None where it is not there or not complete."""
    import huggingface_hub

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                model.repo, revision=model.revision, allow_patterns=list(FILES), local_files_only=True
            )
        )
    except (OSError, ValueError):
        return None
    return folder if _is_complete(folder) else None


def _is_complete(folder: Path) -> bool:
    """Whether everything that is loaded lies there; a snapshot of a broken transfer lacks some of it."""
    try:
        return (folder / "config.json").is_file() and bool(weight_files(folder) and tokenizer_files(folder))
    except CheckpointError:
        return False


def _why_unreachable() -> str | None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to ask the hub"
    failures: list[str] = []
    answered = threading.Event()

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            # Any answer will do. The client is given longer than it is waited for: the wait below is what ends it.
            get_session().head(constants.ENDPOINT, timeout=2 * PATIENCE_SECONDS)
        except Exception as error:  # noqa: BLE001  (the client behind huggingface_hub differs between releases)
            failures.append(str(error).strip().split("\n")[0] or type(error).__name__)
        answered.set()

    # A thread, since looking up a name may take longer than any timeout of the client.
    threading.Thread(target=ask, daemon=True).start()
    if not answered.wait(PATIENCE_SECONDS):
        return f"the hub {constants.ENDPOINT} does not answer within {PATIENCE_SECONDS:g} s"
    return f"the hub {constants.ENDPOINT} cannot be reached ({failures[0]})" if failures else None


def _fetched(model: HubModel) -> Path:
    import huggingface_hub

    with _explained(model):
        info = huggingface_hub.HfApi().model_info(model.repo, revision=model.revision, timeout=30)
        if info.gated and huggingface_hub.get_token() is None:
            raise GatedModelError(_gated(model, "no token is set"))
        _refuse_pickles(model, [sibling.rfilename for sibling in info.siblings or ()])
        config = huggingface_hub.hf_hub_download(model.repo, "config.json", revision=model.revision)
        refuse_foreign_code(model.repo, Path(config))
        read_config(Path(config))
        return Path(huggingface_hub.snapshot_download(model.repo, revision=model.revision, allow_patterns=list(FILES)))


def _refuse_pickles(model: HubModel, names: list[str]) -> None:
    if any(name.endswith(".safetensors") for name in names):
        return
    pickled = next((name for name in names if name.endswith(_PICKLED)), None)
    holds = f"only {pickled} and the like" if pickled else "no weights"
    raise UnsafeWeightsError(
        f"The repository {model.repo} at {model.revision[:12]} has no safetensors, {holds}; pickled weights are never "
        f"loaded, so pin a commit that has safetensors, or convert it and name the folder as path."
    )


@contextmanager
def _explained(model: HubModel) -> Iterator[None]:
    """Give each refusal of the hub its sentence."""
    from huggingface_hub import errors

    where = f"{model.repo} at {model.revision[:12]}"
    try:
        yield
    except EsaError:
        raise
    except errors.GatedRepoError:
        raise GatedModelError(_gated(model, "the token that is set has no access")) from None
    except errors.RevisionNotFoundError:
        raise RevisionMissingError(
            f"The repository {model.repo} has no commit {model.revision}; correct the revision in [tool.esa.models]."
        ) from None
    except errors.RepositoryNotFoundError:
        raise RevisionMissingError(
            f"The hub has no repository {model.repo}, or it is private and no token with access is set; correct its "
            f"name in [tool.esa.models], or set HF_TOKEN."
        ) from None
    except Exception as error:  # noqa: BLE001  (the clients below huggingface_hub, and what lies between, raise anything)
        cause = str(error).strip().split("\n")[0].rstrip(".")
        raise ModelUnavailableError(
            f"The model {where} could not be fetched from the hub ({type(error).__name__}: {cause}); try again, and "
            f"check the network and the space on the disk."
        ) from None


def _gated(model: HubModel, why: str) -> str:
    from huggingface_hub import constants

    return (
        f"The model {model.repo} is gated and {why}; accept its licence at {constants.ENDPOINT}/{model.repo} and set "
        f"HF_TOKEN to a token of that account."
    )
