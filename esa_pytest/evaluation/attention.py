"""Which attention implementation a network runs with."""

from transformers import PreTrainedModel


def attention_of(network: PreTrainedModel) -> str:
    """As `sdpa` or `eager`."""
    return str(network.config._attn_implementation)  # noqa: SLF001  (transformers has no public name)
