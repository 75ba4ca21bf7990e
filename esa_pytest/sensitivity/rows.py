"""The rows of a sweep, one a perturbation, in a CSV file that grows by whole rows and outlives a kill."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter

from esa_pytest.errors import SweepError
from esa_pytest.evaluation.cache import locked, write_atomically


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one perturbation did; drifts are perturbed less clean, NaN where the perturbed run is not finite.

    Attributes:
        label: what was done to what.
        layer: the decoder layer of what was perturbed; -1 outside of them, and where it was not one alone.
        parameter: the perturbed parameter; of several `all matrices` of the layer, or `several parameters`.
        num_changed: how many weights have other bits.
        before: the weight as it was, where it is a single one; NaN elsewhere.
        after: the weight as it was made; NaN elsewhere.
        finite: whether every number of the run was one.
        mean_nll: drift of the loss, nats a token.
        mean_nll_error: its standard error over the text.
        perplexity: drift of the perplexity.
        token_accuracy: drift of the share of correct tokens.
        rms: of the bf16 drift over tokens, nats.
        maximum: of the bf16 drift of one token, nats.
        reference_rms: of the float32 reference's drift, nats; NaN without one.
        first_moved: the first module that moved; empty if none was seen to.
        seen_by: the tiers that saw it, as `exact reference`; empty if none did.
    """

    label: str
    layer: int
    parameter: str
    num_changed: int
    before: float
    after: float
    finite: bool
    mean_nll: float
    mean_nll_error: float
    perplexity: float
    token_accuracy: float
    rms: float
    maximum: float
    reference_rms: float
    first_moved: str
    seen_by: str


COLUMNS = tuple(field.name for field in fields(Row))
_ROW = TypeAdapter(Row)


class RowFile:
    """A file of rows. Beside it lies what they are rows of, so that nothing is added to those of another sweep.

    Attributes:
        path: the CSV file.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        """Nothing is read or written yet.

        Args:
            path: the CSV file.
            identity: what makes it the same sweep.
        """
        self.path = path
        self._identity = identity

    @property
    def identity_path(self) -> Path:
        """The file that says what the rows are rows of."""
        return self.path.with_name(f"{self.path.name}.identity.json")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from this file."""
        with locked(self.path):
            yield

    def resume(self) -> list[Row]:
        """The whole rows that are there, after what a kill left of another is cut off; the file is begun if missing.

        Raises:
            SweepError: the file holds something else, or the rows of another sweep.
        """
        if not self.path.exists():
            write_atomically(self.identity_path, (json.dumps(self._identity, indent=2) + "\n").encode())
            write_atomically(self.path, _line(COLUMNS).encode())
            return []
        self._refuse_another()
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        rows = read_rows(whole, origin=self.path)
        if whole != text:
            write_atomically(self.path, whole.encode())
        return rows

    def append(self, row: Row) -> None:
        """Add a row, which is on the disk when this returns."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line(asdict(row).values()))
            file.flush()
            os.fsync(file.fileno())

    def _refuse_another(self) -> None:
        try:
            found = json.loads(self.identity_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found == self._identity:
            return
        differing = (
            [name for name in self._identity if found.get(name) != self._identity[name]]
            if isinstance(found, dict)
            else []
        )
        what = f"whose {', '.join(differing)} differ" if differing else "of which nothing is known"
        raise SweepError(
            f"{self.path} holds the rows of a sweep {what}; name another file, or remove it and {self.identity_path}."
        )


def read_rows(text: str, *, origin: Path) -> list[Row]:
    """The rows of a CSV text.

    Raises:
        SweepError: it is no such text.
    """
    records = list(csv.reader(io.StringIO(text, newline="")))
    if not records or tuple(records[0]) != COLUMNS:
        raise SweepError(f"{origin} is no file of a sweep: its first line is not its columns; name another file.")
    rows = []
    for number, record in enumerate(records[1:], start=2):
        try:
            rows.append(_ROW.validate_python(dict(zip(COLUMNS, record, strict=True))))
        except ValueError:
            raise SweepError(
                f"Line {number} of {origin} is no row of a sweep; remove the file to begin anew."
            ) from None
    return rows


def write_parquet(rows: list[Row], path: Path) -> None:
    """Write rows as a parquet file, whole or not at all.

    Raises:
        SweepError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise SweepError(
            f"{path.name} is to be a parquet file, which needs pyarrow: pip install 'esa-pytest[parquet]', or name a "
            f".csv file."
        ) from None
    table = pa.table({name: [getattr(row, name) for row in rows] for name in COLUMNS})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())


def _line(values: Iterable[object]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
