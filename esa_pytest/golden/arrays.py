"""The golden's arrays as .npz bytes: deterministic, compressed, never pickled."""

import io
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.errors import GoldenError
from esa_pytest.golden.schema import ARRAY_NAMES
from esa_pytest.records import TokenScores

# The judged part of the JSON travels in the npz as bytes too, so that a hand edit can be named field by field.
SEALED_JSON = "judged_json"
_DTYPES = {name: np.dtype(np.float32 if name == "nll" else np.int32) for name in ARRAY_NAMES}
# Members carry a fixed time, so that equal content gives equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def pack_arrays(scores: TokenScores, sealed_json: bytes) -> bytes:
    """The arrays and the sealed JSON as the bytes of an .npz file."""
    buffer = io.BytesIO()
    arrays: dict[str, npt.NDArray[Any]] = {name: getattr(scores, name) for name in ARRAY_NAMES}
    arrays[SEALED_JSON] = np.frombuffer(sealed_json, dtype=np.uint8)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, arrays[name], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME), member.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack_arrays(data: bytes, *, name: str) -> tuple[TokenScores, bytes]:
    """The arrays and the sealed JSON.

    Args:
        data: the bytes of the .npz file.
        name: what the file is called in a message.

    Raises:
        GoldenError: an array is missing, too many, of another kind or length, or not finite.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {member.removesuffix(".npy"): _read(archive, member) for member in archive.namelist()}
    except Exception as error:  # noqa: BLE001  (zipfile, zlib and numpy raise whatever damaged bytes lead them to)
        raise GoldenError(f"The golden {name} is damaged: its arrays cannot be read ({error}).") from None
    sealed = arrays.pop(SEALED_JSON, None)
    if sealed is None or sealed.dtype != np.uint8 or set(arrays) != set(ARRAY_NAMES):
        raise GoldenError(
            f"The golden {name} is damaged: it holds the arrays {sorted(arrays)}, expected are {list(ARRAY_NAMES)}."
        )
    for key, array in arrays.items():
        if array.dtype != _DTYPES[key] or array.ndim != 1 or array.shape != arrays["nll"].shape:
            raise GoldenError(
                f"The golden {name} is damaged: its array {key} is {array.dtype}{list(array.shape)}, "
                f"expected is {_DTYPES[key]}{list(arrays['nll'].shape)}."
            )
    if not arrays["nll"].size:
        raise GoldenError(f"The golden {name} is damaged: its arrays hold no token.")
    if not np.isfinite(arrays["nll"]).all():
        token = int(np.argmin(np.isfinite(arrays["nll"])))
        raise GoldenError(f"The golden {name} is damaged: its array nll is {arrays['nll'][token]} at token {token}.")
    return TokenScores(**arrays), sealed.tobytes()


def _read(archive: zipfile.ZipFile, member: str) -> npt.NDArray[Any]:
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
