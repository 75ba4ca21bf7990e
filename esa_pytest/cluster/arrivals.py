"""Puts what a node measured in its place on the driver: outputs, goldens with their ledger lines, the mark last.

What arrives is checked before it is written: a file name holds no path, a golden is one that can be read, and it takes
the place of the very golden that the node judged by.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from esa_pytest.cluster.jobs import Answer
from esa_pytest.errors import ClusterError, EsaError
from esa_pytest.evaluation.cache import write_atomically
from esa_pytest.golden.files import write_run
from esa_pytest.golden.ledger import parse
from esa_pytest.golden.ledger_files import AGAIN, write_accepted
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import join_pair, unpack
from esa_pytest.report.documents import MANIFEST, SUMMARY
from esa_pytest.resume.marks import PREFIX, forget_mark, mark_path

_NAME = re.compile(r"[A-Za-z0-9@_][A-Za-z0-9@._+-]*")


def bring_home(answer: Answer, *, nodeid: str, folder: str, output_dir: Path, golden_dir: Path) -> None:
    """Write everything that an answer holds.

    Args:
        answer: of a node.
        nodeid: of the test, as its mark names it.
        folder: of the baseline, `<model>__<type>`.
        output_dir: of the driver.
        golden_dir: of the driver.

    Raises:
        ClusterError: the answer holds what no node of ours sends, or a golden changed meanwhile.
    """
    _refuse_names([*answer.outputs, *answer.goldens])
    _accept(answer, GoldenLocation(root=golden_dir, folder=folder, device="", dtype=""))
    _write_outputs(output_dir / folder, answer.outputs, nodeid=nodeid)


def _refuse_names(names: list[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ClusterError(f"A node sent a file named {name!r}, which is no file of ours; nothing of it was kept.")


def _write_outputs(folder: Path, outputs: Mapping[str, bytes], *, nodeid: str) -> None:
    """As a check itself writes them: no document beside the record of another run, and the mark last of all."""
    if outputs.keys() != {mark_path(folder, nodeid).name}:
        forget_mark(folder, nodeid)
    if any(not name.startswith(PREFIX) for name in outputs):
        # A node that resumed sends nothing but the mark that it was given.
        for document in (MANIFEST, SUMMARY):
            (folder / document).unlink(missing_ok=True)
    pairs = {name for name in outputs if name.endswith(".json") and f"{name.removesuffix('.json')}.npz" in outputs}
    arrays = {f"{name.removesuffix('.json')}.npz" for name in pairs}
    for name in sorted(outputs.keys() - arrays, key=_lateness):
        path, data = folder / name, outputs[name]
        if name in pairs:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_run(path, join_pair(data, outputs[path.with_suffix(".npz").name]))
        else:
            write_atomically(path, data)


def _lateness(name: str) -> tuple[int, str]:
    return (2 if name.startswith(PREFIX) else 1 if name == MANIFEST else 0), name


def _accept(answer: Answer, place: GoldenLocation) -> None:
    """Write the goldens that the node recorded, under the driver's locks, each with its line."""
    if not answer.goldens:
        return
    try:
        entries = {(entry.device, entry.dtype): entry for entry in parse(answer.ledger, name=f"of {answer.node}")}
        for (device, dtype), entry in entries.items():
            location = GoldenLocation(root=place.root, folder=place.folder, device=device, dtype=dtype)
            _refuse_names([location.json.name])
            data = join_pair(answer.goldens[location.json.name], answer.goldens[location.npz.name])
            unpack(data, name=f"of {answer.node}")
            write_accepted(location, data, entry)
    except (KeyError, EsaError) as error:
        cause = f"its {error} is missing" if isinstance(error, KeyError) else str(error).removesuffix(AGAIN).rstrip(".")
        raise ClusterError(
            f"What the node {answer.node} recorded was not kept: {cause}; record the baseline once more."
        ) from None
