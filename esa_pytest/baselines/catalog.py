"""The models, corpora and baseline types that a matrix may name: the packaged ones and the user's own."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from esa_pytest.errors import SettingError

# Names become parts of file names and of pytest ids, so they hold nothing that could leave a folder.
NAME_PATTERN = r"^[A-Za-z0-9@](?:[A-Za-z0-9@._-]*[A-Za-z0-9])?$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"


def _without_double_underscore(name: str) -> str:
    # <model>__<type> names a folder: a__b with c and a with b__c would share one.
    if "__" in name:
        msg = "a name holds no double underscore"
        raise ValueError(msg)
    return name


Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80), AfterValidator(_without_double_underscore)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
PositiveInt = Annotated[int, Field(gt=0)]
DeviceType = Literal["cpu", "cuda"]
BosPolicy = Literal["none", "window"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WheelModel(_Entry):
    """A GGUF file inside a wheel of the package index, dequantised once."""

    source: Literal["wheel"]
    package: str
    version: str
    wheel_sha256: Sha256
    wheel_bytes: PositiveInt
    member: str
    weights_sha256: Sha256
    tokenizer_sha256: Sha256
    license: str
    bos: BosPolicy


class FolderModel(_Entry):
    """A checkpoint folder on this machine: config.json, safetensors, tokenizer.json."""

    source: Literal["folder"] = "folder"
    path: Path
    bos: BosPolicy = "none"


class HubModel(_Entry):
    """A repository of the model hub at a pinned commit."""

    source: Literal["hub"] = "hub"
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    bos: BosPolicy = "none"


ModelSource = WheelModel | FolderModel | HubModel


class CorpusSource(_Entry):
    """A text file. `repeat_to_tokens` repeats it until it has that many tokens."""

    path: Path
    repeat_to_tokens: PositiveInt | None = None


class BaselineType(_Entry):
    """How a baseline is scored.

    Attributes:
        corpora: names of the texts.
        context_lengths: most tokens the model sees in one window, one run each.
        stride: new tokens a window scores; the context length where it is not given.
        scored_tokens: by device class, for each corpus, context length and seed.
        seeds: each selects its windows of the corpus.
        rounds: how often the evaluation is repeated; every round must give the same bits.
        batch_tokens: by device class; divided by the context length it gives the micro-batch.
    """

    corpora: Annotated[tuple[Name, ...], Field(min_length=1)]
    context_lengths: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]
    stride: PositiveInt | None = None
    scored_tokens: dict[DeviceType, PositiveInt]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    rounds: PositiveInt = 1
    batch_tokens: dict[DeviceType, PositiveInt]

    @model_validator(mode="after")
    def _stride_within_context(self) -> "BaselineType":
        if self.stride is not None and self.stride > min(self.context_lengths):
            msg = f"stride {self.stride} is longer than the context length {min(self.context_lengths)}"
            raise ValueError(msg)
        return self


class Catalog(_Entry):
    """Everything a matrix may name."""

    models: dict[Name, Annotated[ModelSource, Field(discriminator="source")]]
    corpora: dict[Name, CorpusSource]
    types: dict[Name, BaselineType]

    @model_validator(mode="after")
    def _types_name_known_corpora(self) -> "Catalog":
        for type_name, baseline_type in self.types.items():
            for corpus in baseline_type.corpora:
                if corpus not in self.corpora:
                    msg = f"type {type_name!r} names the corpus {corpus!r}; known are {sorted(self.corpora)}"
                    raise ValueError(msg)
        return self


class Baseline(_Entry):
    """What is guarded: a model and how it is scored, with all that both need."""

    model_name: Name
    type_name: Name
    model: Annotated[ModelSource, Field(discriminator="source")]
    type: BaselineType
    corpora: dict[Name, CorpusSource]

    @property
    def id(self) -> str:
        """The pytest id, as `smollm2-135m-smoke`."""
        return f"{self.model_name}-{self.type_name}"

    @property
    def folder(self) -> str:
        """The folder of its goldens and outputs, as `smollm2-135m__smoke`."""
        return f"{self.model_name}__{self.type_name}"


def load_catalog(additions: dict[str, Any], *, folder: Path) -> Catalog:
    """The packaged catalog with a user's `[tool.esa]` tables laid over it.

    Args:
        additions: the tables `models`, `corpora` and `types`; a type may give single fields of a packaged one.
        folder: where the user's relative paths start.

    Raises:
        SettingError: an entry is not valid; the message names the entry and the cause.
    """
    packaged = resources.files("esa_pytest.baselines")
    tables = tomllib.loads(packaged.joinpath("catalog.toml").read_text(encoding="utf-8"))
    corpora_folder = Path(str(packaged.joinpath("corpora")))
    for corpus in tables["corpora"].values():
        corpus["path"] = corpora_folder / corpus["path"]
    for table, known in tables.items():
        for name, entry in additions.get(table, {}).items():
            known[name] = _completed(table, known.get(name, {}), entry, folder=folder)
    try:
        return Catalog.model_validate(tables)
    except ValidationError as error:
        raise SettingError(f"[tool.esa] is not valid: {explain(error)}.") from None


def _completed(table: str, packaged: dict[str, Any], entry: Any, *, folder: Path) -> Any:
    """A user's entry with what it may leave out: the source of a model, the other fields of a packaged type."""
    if not isinstance(entry, dict):
        return entry
    completed = dict(packaged) | entry if table == "types" else dict(entry)
    if "path" in completed:
        completed["path"] = folder / Path(str(completed["path"])).expanduser()
    if table == "models":
        completed.setdefault("source", "hub" if "repo" in completed else "folder")
    return completed


def explain(error: ValidationError) -> str:
    """A pydantic error as one clause: which entry, which value, why."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    seen = first["input"]
    value = f" (seen: {seen!r})" if isinstance(seen, str | int | float | bool) else ""
    return f"{where}: {first['msg']}{value}"


def expand_matrix(matrix: dict[str, Any], catalog: Catalog) -> tuple[Baseline, ...]:
    """Every (model, type) of the matrix, models kept together so that each is loaded once.

    Raises:
        SettingError: the matrix names a model or type that the catalog lacks; the message lists the valid ones.
    """
    pairs: list[tuple[str, str]] = []
    for type_name, model_names in matrix.items():
        if type_name not in catalog.types:
            raise SettingError(
                f"[tool.esa.matrix] names the baseline type {type_name!r}; "
                f"valid types are {', '.join(sorted(catalog.types))}."
            )
        if not isinstance(model_names, list) or not all(isinstance(name, str) for name in model_names):
            raise SettingError(
                f"[tool.esa.matrix] {type_name} is {model_names!r}; it takes a list of model names, "
                f'as {type_name} = ["smollm2-135m"].'
            )
        pairs += [(name, type_name) for name in model_names]
    for model_name, _ in pairs:
        if model_name not in catalog.models:
            raise SettingError(
                f"[tool.esa.matrix] names the model {model_name!r}; "
                f"valid models are {', '.join(sorted(catalog.models))}. "
                f"Add your own as [tool.esa.models.{model_name}]."
            )
    order = {name: index for index, (name, _) in reversed(list(enumerate(pairs)))}
    unique = dict.fromkeys(sorted(pairs, key=lambda pair: order[pair[0]]))
    return tuple(_baseline(model, type_name, catalog) for model, type_name in unique)


def _baseline(model_name: str, type_name: str, catalog: Catalog) -> Baseline:
    baseline_type = catalog.types[type_name]
    return Baseline(
        model_name=model_name,
        type_name=type_name,
        model=catalog.models[model_name],
        type=baseline_type,
        corpora={name: catalog.corpora[name] for name in baseline_type.corpora},
    )
