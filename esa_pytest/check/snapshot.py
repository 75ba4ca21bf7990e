"""The syrupy extension: serialises by `golden/`, judges by `drift/`.

Discovery is our own, and finds nothing: syrupy takes a file that no test of this run asserted for unused and deletes
it on `--snapshot-update`, though it may be the golden of another device, of a baseline that `-m` deselected, or the
arrays beside a golden. What no entry of the matrix wants is reported by the plugin and never deleted.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.exceptions import TaintedSnapshotError
from syrupy.extensions.single_file import SingleFileSnapshotExtension
from syrupy.location import PyTestLocation
from syrupy.types import PropertyFilter, PropertyMatcher, SerializableData, SerializedData, SnapshotIndex

from esa_pytest.drift.judge import judge
from esa_pytest.errors import GoldenError
from esa_pytest.evaluation.ranks import is_follower
from esa_pytest.golden.files import read_packed
from esa_pytest.golden.ledger import LedgerEntry
from esa_pytest.golden.ledger_files import write_accepted
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.golden.packing import pack, unpack
from esa_pytest.records import Record, Verdict
from esa_pytest.report.lines import table


class GoldenSnapshotExtension(SingleFileSnapshotExtension):
    """One golden as a syrupy snapshot; `golden_extension` makes the subclass that knows which.

    syrupy makes instances without arguments and asks the class for places, so both travel as class attributes.
    """

    file_extension = "json"
    location: ClassVar[GoldenLocation]
    rewriting: ClassVar[bool]
    verdict: ClassVar[Verdict | None]
    entry: ClassVar[LedgerEntry | None]

    def serialize(
        self,
        data: SerializableData,
        *,
        exclude: PropertyFilter | None = None,  # noqa: ARG002  (syrupy's signature)
        include: PropertyFilter | None = None,  # noqa: ARG002
        matcher: PropertyMatcher | None = None,  # noqa: ARG002
    ) -> SerializedData:
        """The pair of files as one byte string."""
        if not isinstance(data, Record):
            msg = f"a golden is made of a Record, not of a {type(data).__name__}"
            raise TypeError(msg)
        return pack(data, npz_name=self.location.npz.name)

    def matches(self, *, serialized_data: SerializableData, snapshot_data: SerializableData) -> bool:
        """Whether the verdict passes, or, while rewriting, whether there is nothing to accept."""
        if self.entry is not None:
            # A recording has been decided on.
            return False
        verdict = self.verdict or _verdict(serialized_data, snapshot_data)
        return verdict.nothing_to_accept if self.rewriting else verdict.outcome.passed

    def diff_lines(self, serialized_data: SerializedData, snapshot_data: SerializedData) -> Iterator[str]:
        """The verdict and its table in the place of a text diff."""
        verdict = self.verdict or _verdict(serialized_data, snapshot_data)
        yield f"{verdict.outcome}: {verdict.reason}"
        yield from table(verdict.rows)

    def discover_snapshots(
        self,
        *,
        test_location: PyTestLocation,  # noqa: ARG002
        ignore_extensions: list[str] | None = None,  # noqa: ARG002
    ) -> SnapshotCollections:
        """Nothing: see the module."""
        return SnapshotCollections()

    def delete_snapshots(self, *, snapshot_location: str, snapshot_names: set[str]) -> None:
        """Delete nothing: a golden goes only by a person's hand."""

    def read_snapshot_data_from_location(
        self,
        *,
        snapshot_location: str,  # noqa: ARG002
        snapshot_name: str,  # noqa: ARG002
        session_id: str,  # noqa: ARG002
    ) -> SerializableData | None:
        """The golden, None where there is none; one that is not to be trusted is tainted."""
        try:
            data = read_packed(self.location)
            if data is not None:
                unpack(data, name=str(self.location.json))
        except GoldenError:
            # Never a match, and replaced by an update: what syrupy calls tainted.
            raise TaintedSnapshotError(snapshot_data=None) from None
        return data

    @classmethod
    def write_snapshot_collection(
        cls,
        *,
        snapshot_collection: SnapshotCollection,
        name_order: dict[str, int] | None = None,  # noqa: ARG003
    ) -> None:
        """Replace the pair of files as one, and tell of it in the ledger; of several ranks the first does."""
        if is_follower():
            return
        data = next(iter(snapshot_collection)).data
        assert isinstance(data, bytes) and cls.entry is not None  # noqa: PT018, S101  (serialize; only a recording writes)
        write_accepted(cls.location, data, cls.entry)

    @classmethod
    def get_location(cls, *, test_location: PyTestLocation, index: SnapshotIndex) -> str:  # noqa: ARG003
        """Where the JSON lies."""
        return str(cls.location.json)

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:  # noqa: ARG003
        """The folder of the baseline."""
        return str(cls.location.json.parent)

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:  # noqa: ARG003
        """Whether this is the golden of this check, wherever its test lies."""
        return snapshot_location == str(cls.location.json)


def golden_extension(
    location: GoldenLocation, *, rewriting: bool, verdict: Verdict | None = None, entry: LedgerEntry | None = None
) -> type[GoldenSnapshotExtension]:
    """The extension class that keeps its one snapshot at `location`.

    Args:
        location: the place of the golden.
        rewriting: whether a golden matches only where a record of this run would say the same, as under
            `--snapshot-update`; one that merely passes is then replaced too.
        verdict: what was found already of the record that is to be compared, which then is not judged again.
        entry: what the ledger is told where the golden is written; None for a run that writes none.
    """
    told = {"location": location, "rewriting": rewriting, "verdict": verdict, "entry": entry}
    return type("GoldenSnapshotExtension", (GoldenSnapshotExtension,), told)


def _verdict(serialized_data: Any, snapshot_data: Any) -> Verdict:
    measured, golden = unpack(serialized_data, name="of this run"), unpack(snapshot_data, name="on disk")
    return judge(golden, measured)
