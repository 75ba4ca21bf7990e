"""What is heavy is imported here, once and in parts, before anything uses it. Light itself: no torch until it is asked.

Importing torch and transformers makes millions of objects that live as long as the process. The cyclic garbage
collector goes over all that there are again and again meanwhile, and over all of them once more in each later
collection; pytest alone asks for several at the end of a session. So it rests during the imports, and leaves alone
afterwards what is there by then. That is done only where nobody had imported torch before: nothing that is left alone
can then be a model, or hold one.
"""

import gc
import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# In this order: what a part needs of an earlier one is not counted again.
_PARTS = {
    "import_torch": "torch",
    "import_transformers": "transformers.modeling_utils",
    "import_esa": "esa_pytest.check.guarded",
}


def import_heavy() -> dict[str, float]:
    """Import torch, transformers and what computes here, and tell the seconds of each; next to none the second time."""
    seconds: dict[str, float] = {}
    with _collector_at_rest():
        for part, module in _PARTS.items():
            begin = time.perf_counter()
            importlib.import_module(module)
            seconds[part] = time.perf_counter() - begin
    return seconds


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.collect()  # what is garbage by now is not to be kept
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
