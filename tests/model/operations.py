"""Every operation that torch carries out within a block, for a test to look at."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """Tells each operation to `seen`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def seen(self, name: str, args: Sequence[Any], output: Any) -> None:
        """An operation by its full name, as `aten.mm.default`, with what it was given and what it put out."""
        raise NotImplementedError

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.seen(str(func), args, output)
        return output
