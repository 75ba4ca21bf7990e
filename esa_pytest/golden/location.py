"""Where a golden lies: one pair of files a baseline, device class and dtype."""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class GoldenLocation:
    """The place of one golden.

    Attributes:
        root: the folder of all goldens.
        folder: `<model>__<type>`; both names were checked to hold no path.
        device: the device class, as `cpu` or `cuda-sm90`.
        dtype: as `bfloat16`.
    """

    root: Path
    folder: str
    device: str
    dtype: str

    @property
    def json(self) -> Path:
        """The file for people."""
        return self.root / self.folder / f"{self.device}-{self.dtype}.json"

    @property
    def npz(self) -> Path:
        """The arrays beside it."""
        return self.json.with_suffix(".npz")

    def other_devices(self) -> tuple[str, ...]:
        """The device classes for which this baseline has a golden, this one aside."""
        names = sorted(path.stem for path in self.json.parent.glob(f"[!.]*-{self.dtype}.json"))
        return tuple(name.removesuffix(f"-{self.dtype}") for name in names if name != self.json.stem)

    def elsewhere(self) -> tuple["GoldenLocation", ...]:
        """The places of this baseline's goldens for other devices: the CPU's first, then those of the nearest."""
        own = _capability(self.device)

        def distance(device: str) -> tuple[bool, int, int]:
            return device != "cpu", abs(_capability(device) - own), _capability(device)

        return tuple(replace(self, device=device) for device in sorted(self.other_devices(), key=distance))


def _capability(device: str) -> int:
    """Of `cuda-sm90` 90; 0 of a device that has none."""
    digits = device.rpartition("sm")[2]
    return int(digits) if digits.isdecimal() else 0


def unwanted_goldens(root: Path, wanted_folders: set[str]) -> tuple[Path, ...]:
    """The golden folders that no entry of the matrix wants; they are reported and never deleted."""
    if not root.is_dir():
        return ()
    return tuple(sorted(p for p in root.iterdir() if p.is_dir() and "__" in p.name and p.name not in wanted_folders))
