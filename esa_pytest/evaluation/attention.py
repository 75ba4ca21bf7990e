"""Which attention implementation a network runs with, and another one for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from esa_pytest.errors import EvaluationError
from esa_pytest.evaluation.quiet import quiet_transformers


def attention_of(network: PreTrainedModel) -> str:
    """As `sdpa` or `eager`."""
    return str(network.config._attn_implementation)  # noqa: SLF001  (transformers has no public name)


@contextmanager
def with_attention(network: PreTrainedModel, attention: str) -> Iterator[None]:
    """Let a network run with another attention implementation while the block runs.

    Raises:
        EvaluationError: the architecture stays with the one it was loaded with. transformers says so in a log line
            and goes on; what is measured then would bear the wrong name.
    """
    used = attention_of(network)
    _switch(network, attention)
    try:
        yield
    finally:
        _switch(network, used)


def can_switch_attention(network: PreTrainedModel, attention: str) -> bool:
    """Whether the network can run with this implementation, whatever it was loaded with."""
    try:
        with with_attention(network, attention):
            return True
    except EvaluationError:
        return False


def _switch(network: PreTrainedModel, attention: str) -> None:
    refusal = "it stays with the one it was loaded with"
    with quiet_transformers():
        try:
            network.set_attn_implementation(attention)
        except (ValueError, ImportError) as error:
            refusal = str(error).strip().split("\n")[0].rstrip(".")
    if attention_of(network) != attention:
        raise EvaluationError(
            f"{type(network).__name__} cannot run with the attention implementation {attention!r}: {refusal}; set "
            f"attention in [tool.esa.models] to one that its architecture has."
        )
