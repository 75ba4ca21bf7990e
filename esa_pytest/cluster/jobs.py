"""What travels between the driver and a node: JSON, with the content of files in base64. Loads no torch."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="constants",
    )


class Job(_Message):
    """One test for one node.

    Attributes:
        nodeid: of the test.
        argument: what names it on pytest's command line.
        folder: of its baseline's goldens and outputs.
        root: pytest's rootdir, the same path on every node.
        started_in: where the driver was started.
        options: of pytest's command line, without what names files.
        variables: of the process; None for one that must not be there.
        command: the driver's command line, for the provenance.
        import_path: where the driver imports from.
        code: the driver's `code_state`.
        source: the driver's `source_state` of the test.
        goldens: the baseline's goldens by file name.
        earlier: the mark of an earlier verdict and the manifest that it vouches for, by file name.
        golden_shown: how people are told where the goldens lie.
    """

    nodeid: str
    argument: str
    folder: str
    root: str
    started_in: str
    options: tuple[str, ...]
    variables: dict[str, str | None]
    command: tuple[str, ...]
    import_path: tuple[str, ...]
    code: str
    source: str
    goldens: dict[str, bytes]
    earlier: dict[str, bytes]
    golden_shown: str


class Answer(_Message):
    """What became of a job.

    Attributes:
        node: the name of the machine.
        reports: of the test's phases, as pytest serialises them; none where it could not run.
        error: why it could not, as one sentence.
        checked: whether its baseline was checked by all rules, and not in front of a perturbation alone.
        outputs: the files of the baseline's output folder that were written, and the mark of a verdict that stands.
        goldens: the baseline's goldens that were written, by file name.
        ledger: the lines of those goldens.
    """

    node: str
    reports: tuple[dict[str, Any], ...] = ()
    error: str | None = None
    checked: bool = False
    outputs: dict[str, bytes] = {}
    goldens: dict[str, bytes] = {}
    ledger: bytes = b""
