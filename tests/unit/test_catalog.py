from pathlib import Path
from typing import Any

import pytest

from esa_pytest.baselines.catalog import Baseline, expand_matrix
from esa_pytest.baselines.sources import FileCorpus, FolderModel
from esa_pytest.errors import SettingError
from tests.unit.catalogs import REVISION, ROOT, catalog, refusal


def expanded(matrix: dict[str, Any], **additions: Any) -> list[str]:
    return [baseline.id for baseline in expand_matrix(matrix, catalog(**additions))]


def matrix_refusal(matrix: dict[str, Any]) -> str:
    with pytest.raises(SettingError) as caught:
        expand_matrix(matrix, catalog())
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("texts/a.txt", ROOT / "texts/a.txt"), ("/abs/a.txt", Path("/abs/a.txt")), ("~/a.txt", Path("/home/ann/a.txt"))],
)
def test_relative_path_starts_at_the_project(monkeypatch: pytest.MonkeyPatch, given: str, expected: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert catalog(corpora={"mine": {"path": given}}).corpora["mine"] == FileCorpus(path=expected)


def test_type_may_give_single_fields_of_a_packaged_one() -> None:
    packaged = catalog().types["smoke"]
    assert catalog(types={"smoke": {"rounds": 3}}).types["smoke"] == packaged.model_copy(update={"rounds": 3})


def test_type_may_give_a_size_for_one_device_and_keep_the_others() -> None:
    packaged = catalog().types["extended"]
    assert packaged.context is not None
    changed = catalog(types={"extended": {"scored_tokens": {"cpu": 1024}, "context": {"longest": {"cuda": 4096}}}})
    found = changed.types["extended"]
    assert found.scored_tokens == packaged.scored_tokens | {"cpu": 1024}
    assert found.context == packaged.context.model_copy(update={"longest": packaged.context.longest | {"cuda": 4096}})
    assert catalog().types["extended"] == packaged


def test_model_of_a_packaged_name_replaces_it_whole() -> None:
    assert catalog(models={"smollm2-135m": {"path": "m"}}).models["smollm2-135m"] == FolderModel(path=ROOT / "m")


def test_additions_leave_the_packaged_entries() -> None:
    found = catalog(models={"mine": {"path": "m"}})
    packaged = list(catalog().models)
    assert list(found.models) == [*packaged, "mine"]
    assert "mine" not in packaged


@pytest.mark.parametrize(
    ("additions", "told"),
    [
        ({"models": {"mine": {}}}, "models.mine.path: Field required"),
        ({"models": {"mine": "m"}}, "models.mine: it takes a table (seen: 'm')."),
        (
            {"models": {"mine": {"path": "m", "dtype": "int8"}}},
            "models.mine.dtype: there is no such key; valid keys are attention, bos, device_map, gpus, path, source, ",
        ),
        ({"models": {"mine": {"path": "m", "bos": "always"}}}, "(seen: 'always')"),
        ({"models": {"mine": {"repo": "org/name", "revision": "main"}}}, "(seen: 'main')"),
        ({"models": {"mine": {"repo": "name", "revision": REVISION}}}, "(seen: 'name')"),
        (
            {"models": {"mine": {"source": "torrent", "path": "m"}}},
            "models.mine: there is no source 'torrent'; valid sources are 'wheel', 'folder', 'hub', 'random'.",
        ),
        ({"models": {"mine": {"path": "m", "attention": "fast"}}}, "(seen: 'fast')"),
        ({"models": {"mine": {"config": "c.json", "seed": "x"}}}, "models.mine.seed"),
        ({"corpora": {"mine": {}}}, "corpora.mine.path: Field required"),
        ({"corpora": {"mine": {"path": "a.txt", "repeat_to_tokens": 0}}}, "(seen: 0)"),
        ({"corpora": {"mine": {"source": "rumour", "path": "a.txt"}}}, "corpora.mine"),
        ({"types": {"mine": {}}}, "types.mine.corpora: Field required"),
        ({"types": {"smoke": {"rounds": 0}}}, "types.smoke.rounds: Input should be greater than 0 (seen: 0)"),
        ({"types": {"smoke": {"seeds": []}}}, "types.smoke.seeds"),
        ({"types": {"smoke": {"context_lengths": [1]}}}, "types.smoke.context_lengths.0"),
        ({"types": {"smoke": {"context_lengths": 1024}}}, "types.smoke.context_lengths: it takes a list (seen: 1024)."),
        (
            {"types": {"smoke": {"scored_tokens": {"tpu": 1}}}},
            "types.smoke.scored_tokens.tpu: Input should be 'cpu' or 'cuda' (seen: 'tpu').",
        ),
        (
            {"types": {"extended": {"context": {"far": 1}}}},
            "types.extended.context.far: there is no such key; valid keys are chunk_tokens, depths, facts_a_depth, ",
        ),
        ({"types": {"smoke": {"stride": 2048}}}, "types.smoke: stride 2048 is longer than the context length 1024."),
        (
            {"types": {"smoke": {"corpora": ["gone"]}}},
            "not valid: type 'smoke' names the corpus 'gone'; known are ['c4', 'embedded', 'repeat', 'shakespeare',",
        ),
    ],
)
def test_entry_that_is_not_valid_is_told_by_its_name(additions: dict[str, Any], told: str) -> None:
    message = refusal(**additions)
    assert message.startswith("[tool.esa] is not valid: ")
    assert told in message
    assert "Value error" not in message
    assert "\n" not in message


def test_type_of_the_name_of_a_table_is_told_its_own_keys() -> None:
    smoke = catalog().types["smoke"].model_dump()
    told = refusal(types={"context": smoke | {"far": 1}})
    assert "types.context.far: there is no such key; valid keys are batch_tokens, " in told


def test_model_that_comes_from_two_places_is_refused() -> None:
    assert refusal(models={"mine": {"path": "m", "repo": "org/name"}}) == (
        "[tool.esa.models.mine] gives path and repo; a model comes from a folder (path), from the hub (repo) or has "
        "random weights of a shape (config), so leave all but one out."
    )


@pytest.mark.parametrize(("table", "key"), [("models", "path"), ("models", "config"), ("corpora", "path")])
@pytest.mark.parametrize("value", [3, True, ["m"]])
def test_path_that_is_no_text_is_refused(table: str, key: str, value: Any) -> None:
    assert refusal(**{table: {"mine": {key: value}}}) == (
        f"{key} in [tool.esa.{table}.mine] is {value!r}; it takes the path as text."
    )


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-x", "a b", "x.", "a\n", "ä", "a" * 81])
@pytest.mark.parametrize("table", ["models", "corpora"])
def test_name_that_could_leave_a_folder_is_refused(table: str, name: str) -> None:
    assert refusal(**{table: {name: {"path": "m"}}}).startswith(f"[tool.esa] is not valid: {table}.")


@pytest.mark.parametrize("name", ["a", "Qwen2.5-0.5B", "org@v1", "a_b", "a..b", "7", "a" * 80])
def test_ordinary_name_is_taken(name: str) -> None:
    assert name in catalog(models={name: {"path": "m"}}).models


def test_models_are_kept_together_in_the_order_of_the_matrix() -> None:
    models = {name: {"path": name} for name in ("b", "a")}
    assert expanded({"smoke": ["b", "a"], "standard": ["a", "b", "smollm2-135m"]}, models=models) == [
        "b-smoke",
        "b-standard",
        "a-smoke",
        "a-standard",
        "smollm2-135m-standard",
    ]


def test_baseline_that_is_named_twice_is_one() -> None:
    assert expanded({"smoke": ["smollm2-135m", "smollm2-135m"]}) == ["smollm2-135m-smoke"]


def test_empty_matrix_has_no_baseline() -> None:
    assert expanded({}) == expanded({"smoke": []}) == []


def test_unknown_type_is_told_with_the_valid() -> None:
    assert matrix_refusal({"smok": ["smollm2-135m"]}) == (
        "[tool.esa.matrix] names the baseline type 'smok'; valid types are extended, smoke, standard."
    )


def test_unknown_model_is_told_with_the_valid() -> None:
    assert matrix_refusal({"smoke": ["gpt9"]}) == (
        f"[tool.esa.matrix] names the model 'gpt9'; valid models are {', '.join(sorted(catalog().models))}. "
        "Add your own as [tool.esa.models.gpt9]."
    )


@pytest.mark.parametrize("names", ["smollm2-135m", 1, True, None, [1], [["smollm2-135m"]], {"smollm2-135m": True}])
def test_type_that_lists_no_names_is_told_how(names: Any) -> None:
    assert matrix_refusal({"smoke": names}) == (
        f'[tool.esa.matrix] smoke is {names!r}; it takes a list of model names, as smoke = ["smollm2-135m"].'
    )


def folder_of(model: str, baseline_type: str) -> str:
    (baseline,) = expand_matrix(
        {baseline_type: [model]},
        catalog(models={model: {"path": "m"}}, types={baseline_type: catalog().types["smoke"].model_dump()}),
    )
    return baseline.folder


@pytest.mark.parametrize(("model", "baseline_type"), [("a__b", "c"), ("a", "b__c")])
def test_names_that_would_share_a_folder_are_refused(model: str, baseline_type: str) -> None:
    with pytest.raises(SettingError, match="a name holds no double underscore"):
        folder_of(model, baseline_type)


def test_baseline_cannot_be_changed() -> None:
    (baseline,) = expand_matrix({"smoke": ["smollm2-135m"]}, catalog())
    assert isinstance(baseline, Baseline)
    with pytest.raises(ValueError, match="frozen"):
        baseline.type_name = "other"  # type: ignore[misc]


def test_two_baselines_of_one_id_are_refused() -> None:
    sizes = catalog().types["smoke"].model_dump()
    both = catalog(
        models={"qwen": {"path": "m"}, "qwen-long": {"path": "n"}}, types={"smoke": sizes, "long-smoke": sizes}
    )
    with pytest.raises(SettingError) as caught:
        expand_matrix({"smoke": ["qwen-long"], "long-smoke": ["qwen"]}, both)
    assert str(caught.value) == (
        "[tool.esa.matrix] names two baselines with the id 'qwen-long-smoke': the model 'qwen-long' with the type "
        "'smoke', and 'qwen' with 'long-smoke'; rename a model or a type."
    )
    assert len(expand_matrix({"smoke": ["qwen-long", "qwen"]}, both)) == 2


@pytest.mark.parametrize(
    ("field", "given", "twice"),
    [("seeds", [7, 1, 7], "7"), ("context_lengths", [64, 64], "64"), ("corpora", ["embedded"] * 2, "'embedded'")],
)
def test_what_a_type_names_twice_is_told(field: str, given: list[Any], twice: str) -> None:
    assert refusal(types={"smoke": {field: given}}) == (
        f"[tool.esa] is not valid: types.smoke.{field}: {twice} stands there twice, and the same windows "
        f"would be scored twice and taken for others; name it once."
    )


@pytest.mark.parametrize("name", ["skip", "skipif", "xfail", "parametrize", "usefixtures", "flaky", "xdist_group"])
def test_type_whose_name_is_a_mark_that_others_act_by_is_refused(name: str) -> None:
    assert refusal(types={name: catalog().types["smoke"].model_dump()}) == (
        f"[tool.esa] is not valid: types: the type {name!r} has the name of a mark that pytest or a "
        f"plugin of it acts by; its name may be none of benchmark, filterwarnings, flaky, parametrize, skip, skipif, "
        f"timeout, usefixtures, xdist_group, xfail."
    )
