"""Where models and corpora come from: one schema for each kind of source in the catalog."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# Names become parts of file names and of pytest ids, so they hold nothing that could leave a folder.
NAME_PATTERN = r"^[A-Za-z0-9@](?:[A-Za-z0-9@._-]*[A-Za-z0-9])?$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"
DISTRIBUTION_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$"
REPOSITORY_PATTERN = r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$"


def _without_double_underscore(name: str) -> str:
    # <model>__<type> names a folder: a__b with c and a with b__c would share one.
    if "__" in name:
        msg = "a name holds no double underscore"
        raise ValueError(msg)
    return name


Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=80), AfterValidator(_without_double_underscore)]
# As the package index spells it: `My_Kernels` and `my.kernels` are one distribution.
Distribution = Annotated[
    str, Field(pattern=DISTRIBUTION_PATTERN), AfterValidator(lambda name: re.sub(r"[-_.]+", "-", name).lower())
]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
PositiveInt = Annotated[int, Field(gt=0)]
DeviceType = Literal["cpu", "cuda"]
BosPolicy = Literal["none", "window"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
DeviceMap = Literal["auto", "balanced", "sequential"]


class Entry(BaseModel):
    """A table of the catalog; what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Model(Entry):
    """What every model's entry may say.

    Attributes:
        bos: whether every window begins with the tokenizer's BOS; where an entry does not say, and the tokenizer would
            begin a text with it, a note tells so.
        attention: the attention implementation, never left to transformers' choice.
        gpus: over how many GPUs it is spread; what a cluster reserves for it.
        device_map: how accelerate spreads it over the visible GPUs; None for one GPU where it fits on one.
        tensor_parallel: whether its matrices are split over the ranks of torchrun.
    """

    bos: BosPolicy = "none"
    attention: Attention = "sdpa"
    gpus: PositiveInt = 1
    device_map: DeviceMap | None = None
    tensor_parallel: bool = False

    @model_validator(mode="after")
    def _split_in_one_way(self) -> "_Model":
        if self.tensor_parallel and self.device_map is not None:
            msg = "a model is split by device_map or by tensor_parallel, not by both"
            raise ValueError(msg)
        return self


class WheelModel(_Model):
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


class FolderModel(_Model):
    """A checkpoint folder on this machine: config.json, safetensors, tokenizer.json."""

    source: Literal["folder"] = "folder"
    path: Path


class HubModel(_Model):
    """A repository of the model hub at a pinned commit."""

    source: Literal["hub"] = "hub"
    repo: Annotated[str, Field(pattern=REPOSITORY_PATTERN)]
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)]


class RandomModel(_Model):
    """A model of a given shape with seeded random weights, made on the device: for memory and throughput, not loss."""

    source: Literal["random"] = "random"
    config: Path
    seed: int = 1337


ModelSource = WheelModel | FolderModel | HubModel | RandomModel


class FileCorpus(Entry):
    """A text file. `repeat_to_tokens` repeats it until it has that many tokens."""

    source: Literal["file"] = "file"
    path: Path
    repeat_to_tokens: PositiveInt | None = None


class SdistCorpus(Entry):
    """Text files of a source archive on the package index; nothing of the archive is executed.

    Attributes:
        package: its name on the index.
        version: its version.
        sha256: over the archive.
        members: which of its files are the text, as a pattern of paths behind the top folder.
        license: of the text.
    """

    source: Literal["sdist"]
    package: str
    version: str
    sha256: Sha256
    members: str
    license: str


class DatasetCorpus(Entry):
    """A column of a data set, of the hub at a pinned commit or of a local copy.

    Attributes:
        repo: the data set's name on the hub; None where `path` is given.
        revision: the commit.
        path: a folder that `datasets` saved, or a folder of parquet, JSON or text files.
        config: which of the data set's configurations; of one that `datasets` saved there is no choice.
        split: which split.
        data_files: single files of the repository or the folder, where the whole split would be too much.
        column: the column that holds the text.
        max_documents: how many rows, from the first on; None for all.
        joined: whether the rows are pieces of one text rather than documents.
    """

    source: Literal["dataset"]
    repo: Annotated[str, Field(pattern=REPOSITORY_PATTERN)] | None = None
    revision: Annotated[str, Field(pattern=COMMIT_PATTERN)] | None = None
    path: Path | None = None
    config: str | None = None
    split: str
    data_files: str | None = None
    column: str = "text"
    max_documents: PositiveInt | None = None
    joined: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> "DatasetCorpus":
        hub = (self.repo is not None, self.revision is not None)
        if any(hub) if self.path is not None else not all(hub):
            msg = "a data set has either a path or a repo with its revision"
            raise ValueError(msg)
        return self


CorpusSource = FileCorpus | SdistCorpus | DatasetCorpus
