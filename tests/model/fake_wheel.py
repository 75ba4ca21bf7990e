"""A small wheel with one file worth having, and an entry of the catalog for it."""

import hashlib
import zipfile
from pathlib import Path

from esa_pytest.baselines.sources import WheelModel

PACKAGE, VERSION = "fake-esa-model", "0.0.1"
MEMBER = "fake_esa_model/weights.gguf"
CONTENT = bytes(range(256)) * 64
_INFO = f"fake_esa_model-{VERSION}.dist-info"


def write_fake_wheel(folder: Path) -> WheelModel:
    """Write the wheel where `PIP_FIND_LINKS` may point, and return what the catalog would say of it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"fake_esa_model-{VERSION}-py3-none-any.whl"
    members = {
        MEMBER: CONTENT,
        "fake_esa_model/__init__.py": b"raise SystemExit('nothing of the wheel is executed')\n",
        f"{_INFO}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n".encode(),
        f"{_INFO}/WHEEL": b"Wheel-Version: 1.0\nGenerator: esa\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*members, f"{_INFO}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in (members | {f"{_INFO}/RECORD": record.encode()}).items():
            wheel.writestr(zipfile.ZipInfo(name), content)
    data = path.read_bytes()
    return WheelModel(
        source="wheel",
        package=PACKAGE,
        version=VERSION,
        wheel_sha256=hashlib.sha256(data).hexdigest(),
        wheel_bytes=len(data),
        member=MEMBER,
        weights_sha256="0" * 64,
        tokenizer_sha256="0" * 64,
        license="Apache-2.0",
        bos="none",
    )
