"""The models, corpora and baseline types that a matrix may name: the packaged ones and the user's own."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from esa_pytest.baselines.context_plan import ContextPlan
from esa_pytest.baselines.refusals import explain, source_of_model
from esa_pytest.baselines.sources import CorpusSource, DeviceType, Distribution, Entry, ModelSource, Name, PositiveInt
from esa_pytest.errors import SettingError
from esa_pytest.homes import expanded

# `<model>@full` is the model's true shape with random weights.
FULL_TWIN = "full"
# A type's name marks its tests: pytest would skip by one of these, and its common plugins run or time otherwise.
_MARKS_OF_OTHERS = (
    "benchmark",
    "filterwarnings",
    "flaky",
    "parametrize",
    "skip",
    "skipif",
    "timeout",
    "usefixtures",
    "xdist_group",
    "xfail",
)
PACKAGED = Path(str(resources.files("esa_pytest.baselines")))


class BaselineType(Entry):
    """How a baseline is scored.

    Attributes:
        corpora: names of the texts.
        context_lengths: most tokens the model sees in one window, one run each, as far as its positions reach. With
            `context` the longest of them, or as many tokens as the model has positions where these are fewer.
        stride: new tokens a window scores; the context length where it is not given.
        scored_tokens: by device class, of the whole baseline; `baselines.shares` divides them.
        seeds: each selects its windows of the corpus.
        rounds: how often the evaluation is repeated; every round must give the same bits.
        batch_tokens: by device class; divided by the context length it gives the micro-batch.
        calibration: whether the model's probabilities are examined (ECE, Brier, entropy, top-k mass).
        other_batch_shape: whether the evaluation is repeated in another batch shape.
        fresh_process: whether the evaluation is repeated in a new process.
        widened_products: whether a CPU without bf16 arithmetic multiplies in float32 and rounds to bf16, several times
            faster; what torch itself makes of bf16 matrices there is then not guarded.
        context: what is asked of long contexts; documents longer than the context are then scored by windows that
            overlap, whatever the stride.
    """

    corpora: Annotated[tuple[Name, ...], Field(min_length=1)]
    context_lengths: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]
    stride: PositiveInt | None = None
    scored_tokens: dict[DeviceType, PositiveInt]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    rounds: PositiveInt = 1
    batch_tokens: dict[DeviceType, PositiveInt]
    calibration: bool = False
    other_batch_shape: bool = False
    fresh_process: bool = False
    widened_products: bool = False
    context: ContextPlan | None = None

    @field_validator("corpora", "context_lengths", "seeds")
    @classmethod
    def _each_once(cls, given: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = next((value for value in given if given.count(value) > 1), None)
        if twice is not None:
            msg = (
                f"{twice!r} stands there twice, and the same windows would be scored twice and taken for others; name "
                f"it once"
            )
            raise ValueError(msg)
        return given

    @model_validator(mode="after")
    def _stride_within_context(self) -> "BaselineType":
        if self.stride is not None and self.stride > min(self.context_lengths):
            msg = f"stride {self.stride} is longer than the context length {min(self.context_lengths)}"
            raise ValueError(msg)
        return self


class Reported(Entry):
    """What somebody else reported of a baseline; shown beside what is measured, and never judged by.

    Attributes:
        loss: nats a token; None where the weights are random and no loss is to be compared.
        perplexity: its exponential; None likewise.
        token_accuracy: a share between 0 and 1; None likewise.
        peak_vram_gib: in units of 2**30 bytes.
        tokens_per_second: scored tokens a second.
    """

    loss: float | None
    perplexity: float | None
    token_accuracy: float | None
    peak_vram_gib: float
    tokens_per_second: float


class Catalog(Entry):
    """Everything a matrix may name, and the distributions whose versions are recorded beside those that always are."""

    models: dict[Name, Annotated[ModelSource, Field(discriminator="source")]]
    corpora: dict[Name, Annotated[CorpusSource, Field(discriminator="source")]]
    types: dict[Name, BaselineType]
    reported: dict[Name, dict[Name, Reported]]
    packages: tuple[Distribution, ...] = ()

    @field_validator("types")
    @classmethod
    def _types_are_marks_of_their_own(cls, types: dict[str, BaselineType]) -> dict[str, BaselineType]:
        for name in types:
            if name in _MARKS_OF_OTHERS:
                msg = (
                    f"the type {name!r} has the name of a mark that pytest or a plugin of it acts by; its name may be "
                    f"none of {', '.join(_MARKS_OF_OTHERS)}"
                )
                raise ValueError(msg)
        return types

    @model_validator(mode="after")
    def _types_name_known_corpora(self) -> "Catalog":
        for type_name, baseline_type in self.types.items():
            for corpus in baseline_type.corpora:
                if corpus not in self.corpora:
                    msg = f"type {type_name!r} names the corpus {corpus!r}; known are {sorted(self.corpora)}"
                    raise ValueError(msg)
        return self


class Baseline(Entry):
    """What is guarded: a model and how it is scored, with all that both need."""

    model_name: Name
    type_name: Name
    model: Annotated[ModelSource, Field(discriminator="source")]
    type: BaselineType
    corpora: dict[Name, Annotated[CorpusSource, Field(discriminator="source")]]
    reported: Reported | None = None
    packages: tuple[Distribution, ...] = ()

    @property
    def id(self) -> str:
        """The pytest id, as `smollm2-135m-smoke`."""
        return f"{self.model_name}-{self.type_name}"

    @property
    def folder(self) -> str:
        """The folder of its goldens and outputs, as `smollm2-135m__smoke`."""
        return f"{self.model_name}__{self.type_name}"


# By the key behind which, in a table, such an entry stands.
_TABLES: dict[str, type[Entry]] = {"types": BaselineType, "context": ContextPlan}


def load_catalog(additions: dict[str, Any], *, folder: Path) -> Catalog:
    """The packaged catalog with a user's `[tool.esa]` tables laid over it.

    Args:
        additions: the tables `models`, `corpora` and `types`, where a type may give single fields of a packaged one,
            and the list `packages`.
        folder: where the user's relative paths start.

    Raises:
        SettingError: an entry is not valid; the message names the entry and the cause.
    """
    tables = tomllib.loads((PACKAGED / "catalog.toml").read_text(encoding="utf-8"))
    for corpus in tables["corpora"].values():
        if "path" in corpus:
            corpus["path"] = PACKAGED / "corpora" / corpus["path"]
    for model in tables["models"].values():
        if "config" in model:
            model["config"] = PACKAGED / "shapes" / model["config"]
    tables["packages"] = additions.get("packages", [])
    for table in ("models", "corpora", "types"):
        known = tables[table]
        for name, entry in additions.get(table, {}).items():
            known[name] = _completed(table, name, known.get(name, {}), entry, folder=folder)
    try:
        return Catalog.model_validate(tables)
    except ValidationError as error:
        raise SettingError(f"[tool.esa] is not valid: {explain(error, _TABLES)}.") from None


def _completed(table: str, name: str, packaged: dict[str, Any], entry: Any, *, folder: Path) -> Any:
    """A user's entry with what it may leave out: the source of a model, the other fields of a packaged type."""
    if not isinstance(entry, dict):
        return entry
    completed = _laid_over(packaged, entry) if table == "types" else dict(entry)
    for key in ("path", "config") if table == "models" else ("path",):
        if key in completed:
            if not isinstance(completed[key], str):
                raise SettingError(
                    f"{key} in [tool.esa.{table}.{name}] is {completed[key]!r}; it takes the path as text."
                )
            completed[key] = folder / expanded(completed[key], origin=f"{key} in [tool.esa.{table}]")
    if table == "models":
        completed.setdefault("source", source_of_model(name, completed))
    if table == "corpora":
        completed.setdefault("source", "dataset" if "split" in completed else "file")
    return completed


def _laid_over(packaged: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """A table with single fields replaced, those of the tables in it too: a size for one device leaves the other's."""
    found = dict(packaged)
    for key, value in entry.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _laid_over(found[key], value) if both else value
    return found


def expand_matrix(matrix: dict[str, Any], catalog: Catalog) -> tuple[Baseline, ...]:
    """Every (model, type) of the matrix, models kept together so that each is loaded once.

    Raises:
        SettingError: the matrix names a model or type that the catalog lacks, and the message lists the valid ones; or
            two of its baselines would have one id.
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
    baselines = tuple(baseline_of(model, type_name, catalog) for model, type_name in unique)
    _refuse_shared_ids(baselines)
    return baselines


def _refuse_shared_ids(baselines: tuple[Baseline, ...]) -> None:
    """What is selected, accepted and compared by an id must be one baseline: a-b with c and a with b-c are two."""
    known: dict[str, Baseline] = {}
    for baseline in baselines:
        first = known.setdefault(baseline.id, baseline)
        if first is not baseline:
            raise SettingError(
                f"[tool.esa.matrix] names two baselines with the id {baseline.id!r}: the model {first.model_name!r} "
                f"with the type {first.type_name!r}, and {baseline.model_name!r} with {baseline.type_name!r}; rename a "
                f"model or a type."
            )


def baseline_of(model_name: str, type_name: str, catalog: Catalog) -> Baseline:
    """One pair of the catalog with all that it needs."""
    baseline_type = catalog.types[type_name]
    return Baseline(
        model_name=model_name,
        type_name=type_name,
        model=catalog.models[model_name],
        type=baseline_type,
        corpora={name: catalog.corpora[name] for name in baseline_type.corpora},
        reported=_reported(model_name, type_name, catalog),
        packages=catalog.packages,
    )


def _reported(model_name: str, type_name: str, catalog: Catalog) -> Reported | None:
    """What was reported of a model; of its full twin, with random weights, the memory and the throughput alone."""
    name, _, twin = model_name.partition("@")
    found = catalog.reported.get(name, {}).get(type_name)
    if found is None or not twin:
        return found
    if twin != FULL_TWIN:
        return None
    return found.model_copy(update={"loss": None, "perplexity": None, "token_accuracy": None})
