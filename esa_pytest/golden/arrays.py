"""The golden's arrays as .npz bytes: deterministic, compressed, never pickled."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from esa_pytest.errors import GoldenError
from esa_pytest.records import BlockScores, TokenScores

# The judged part of the JSON travels in the npz as bytes too, so that a hand edit can be named field by field.
SEALED_JSON = "judged_json"
# What other parts of a golden keep beside the scores; each checks its own.
_PARTS = ("context_", "noise_", "probe_", "top_")
_TOKEN_DTYPES: dict[str, np.dtype[Any]] = {
    "argmax": np.dtype(np.int32),
    "nll": np.dtype(np.float32),
    "position": np.dtype(np.int32),
    "stratum": np.dtype(np.int32),
    "target": np.dtype(np.int32),
    "window": np.dtype(np.int32),
}
_BLOCK_DTYPES: dict[str, np.dtype[Any]] = {
    "bits": np.dtype(np.uint64),
    "nll_sum": np.dtype(np.float64),
    "num_correct": np.dtype(np.int32),
    "num_tokens": np.dtype(np.int32),
    "position": np.dtype(np.int32),
    "window": np.dtype(np.int32),
}
# Members carry a fixed time, so that equal content gives equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def pack_arrays(scores: TokenScores | BlockScores, sealed_json: bytes, parts: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The arrays and the sealed JSON as the bytes of an .npz file."""
    buffer = io.BytesIO()
    names = _TOKEN_DTYPES if isinstance(scores, TokenScores) else _BLOCK_DTYPES
    arrays: dict[str, npt.NDArray[Any]] = {name: getattr(scores, name) for name in names}
    arrays |= parts
    arrays[SEALED_JSON] = np.frombuffer(sealed_json, dtype=np.uint8)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, arrays[name], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME), member.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack_arrays(data: bytes, *, name: str) -> tuple[TokenScores | BlockScores, bytes, dict[str, npt.NDArray[Any]]]:
    """The arrays, the sealed JSON, and the arrays of other parts, which are not yet checked.

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
    parts = {key: arrays.pop(key) for key in list(arrays) if key.startswith(_PARTS)}
    dtypes = _BLOCK_DTYPES if "nll_sum" in arrays else _TOKEN_DTYPES
    if sealed is None or sealed.dtype != np.uint8 or set(arrays) != set(dtypes):
        raise GoldenError(
            f"The golden {name} is damaged: it holds the arrays {sorted(arrays)}, expected are {sorted(dtypes)}."
        )
    _refuse_malformed(arrays, dtypes, values="nll_sum" if dtypes is _BLOCK_DTYPES else "nll", name=name)
    if dtypes is _BLOCK_DTYPES:
        tokens, correct = arrays["num_tokens"], arrays["num_correct"]
        if (tokens < 1).any() or (correct < 0).any() or (correct > tokens).any():
            raise GoldenError(f"The golden {name} is damaged: the counts of its blocks contradict each other.")
    kind = BlockScores if dtypes is _BLOCK_DTYPES else TokenScores
    return kind(**arrays), sealed.tobytes(), parts


def _refuse_malformed(
    arrays: dict[str, npt.NDArray[Any]], dtypes: dict[str, np.dtype[Any]], *, values: str, name: str
) -> None:
    """Check kinds and lengths, and that the values are finite."""
    nll = arrays[values]
    for key, array in arrays.items():
        if array.dtype != dtypes[key] or array.ndim != 1 or array.shape != nll.shape:
            raise GoldenError(
                f"The golden {name} is damaged: its array {key} is {array.dtype}{list(array.shape)}, "
                f"expected is {dtypes[key]}{list(nll.shape)}."
            )
    if not nll.size:
        raise GoldenError(f"The golden {name} is damaged: its arrays hold no token.")
    if not np.isfinite(nll).all():
        index, unit = int(np.argmin(np.isfinite(nll))), "token" if values == "nll" else "block"
        raise GoldenError(f"The golden {name} is damaged: its array {values} is {nll[index]} at {unit} {index}.")


def _read(archive: zipfile.ZipFile, member: str) -> npt.NDArray[Any]:
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
