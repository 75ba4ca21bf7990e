"""The incidents: what happened, where it was reported, how it is replayed, and what a check has to say of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from esa_pytest.records import Outcome, Tier
from tests.incidents.found import Found
from tests.incidents.jobs import Job
from tests.incidents.product import read_by_older_release
from tests.incidents.replay import (
    EAGER,
    NARROWED,
    default_dtype,
    other_kernel,
    other_windows,
    release_pair,
    summed_loss,
)
from tests.incidents.subjects import LLAMA, PLAIN_LLAMA, PYTHIA
from tests.incidents.train import OPT, QWEN2

ACCUMULATION_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One regression of the past.

    Attributes:
        id: as `I03`.
        happened: what changed, and what users saw of it.
        source: where it was reported.
        replayed: by which releases, or which line.
        replay: does it.
        outcome: what a check has to conclude.
        or_else: what it may conclude on another processor, where that depends on its kernels.
        tier: which tier has to decide.
        names: what the named cause has to contain.
    """

    id: str
    happened: str
    source: str
    replayed: str
    replay: Callable[[], Found]
    outcome: Outcome
    tier: Tier
    names: tuple[str, ...]
    or_else: Outcome | None = None


INCIDENTS: tuple[Incident, ...] = (
    Incident(
        id="I01",
        happened="transformers 5 keeps the RoPE base in `rope_parameters` alone; 4.x reads such a config and computes "
        "with 10000, without a word (a 135M Llama: loss +3.5 %, perplexity +15 %)",
        source="vllm #42624, DeepSpeed #8345",
        replayed="the Llama twin saved by 5.23.0, judged under 4.57.6",
        replay=partial(read_by_older_release, LLAMA, "4.57.6"),
        names=("rope_parameters (500000)", "runs with 10000"),
        outcome=Outcome.SEMANTIC_DRIFT,
        tier=Tier.REFERENCE,
    ),
    Incident(
        id="I02",
        happened="GPT-NeoX held cosines and sines in the model's dtype (NaN on pythia-70m); mended in 4.37",
        source="transformers #28316, #28360, #28602",
        replayed="the Pythia twin under 4.34.1 and 4.35.2, eager",
        replay=partial(release_pair, PYTHIA, "4.34.1", "4.35.2", EAGER),
        names=("gpt_neox.layers.0.attention", "RoPE", "4.34.1 -> 4.35.2"),
        outcome=Outcome.SEMANTIC_DRIFT,
        tier=Tier.REFERENCE,
    ),
    Incident(
        id="I03",
        happened="a refactored attention lost Qwen2's sliding window; mended in 4.49",
        source="transformers #35896, #36162",
        replayed="a Qwen2 with a window of 128 under 4.47.1 and 4.48.0, sdpa",
        replay=partial(release_pair, QWEN2, "4.47.1", "4.48.0", Job()),
        names=("first position 128", "sliding window of 128", "model.layers.0.self_attn", "4.47.1 -> 4.48.0"),
        outcome=Outcome.SEMANTIC_DRIFT,
        tier=Tier.REFERENCE,
    ),
    Incident(
        id="I04",
        happened="OPT's attention scaled its queries twice (LAMBADA perplexity 26 -> 388,418); reported of sdpa and "
        "first blamed on torch; mended in 4.52.4",
        source="transformers #38277, #38290, pytorch #155168",
        replayed="a tiny OPT under 4.51.3 and 4.52.2, sdpa",
        replay=partial(release_pair, OPT, "4.51.3", "4.52.2", Job()),
        names=("model.decoder.layers.0.self_attn", "4.51.3 -> 4.52.2"),
        outcome=Outcome.SEMANTIC_DRIFT,
        tier=Tier.REFERENCE,
    ),
    Incident(
        id="I05",
        happened="torch 2.13 brought another bf16 attention kernel: rounding changed, meaning did not",
        source="pytorch #183809",
        replayed="sdpa and eager attention under 5.23.0, and eager held out of the noise (a wheel of torch 2.12 is "
        "half a gigabyte, and its CPU build is not on the package index)",
        replay=other_kernel,
        names=("attention sdpa -> eager",),
        outcome=Outcome.NUMERIC_DRIFT,
        # With AMX the kernels of older processors, which the noise holds, round as differently as another attention.
        or_else=Outcome.WITHIN_NOISE,
        tier=Tier.PAIRED,
    ),
    Incident(
        id="I06",
        happened="RoPE is computed anew from `inv_freq`, which `.to(bfloat16)` after loading has rounded",
        source="transformers #29285, #25681",
        replayed="a Llama loaded in float32 and narrowed, under 4.37.2 and 4.38.2, eager",
        replay=partial(release_pair, PLAIN_LLAMA, "4.37.2", "4.38.2", NARROWED),
        names=("model.layers.0.self_attn", "first position 2", "4.37.2 -> 4.38.2"),
        outcome=Outcome.SEMANTIC_DRIFT,
        tier=Tier.REFERENCE,
    ),
    Incident(
        id="I07",
        happened="where nobody says a dtype, transformers 5 takes the checkpoint's and no longer float32",
        source="transformers #42805, #34919",
        replayed="a Llama loaded without a dtype under 4.57.6 and 5.0.0",
        replay=partial(default_dtype, "4.57.6", "5.0.0"),
        names=("model.dtype", "float32 -> bfloat16"),
        outcome=Outcome.INPUTS_CHANGED,
        tier=Tier.IDENTITY,
    ),
    Incident(
        id="I08",
        happened="initialisation on the meta device left `inv_freq`, which no checkpoint holds, unset (loss 3.63 "
        "against 11.08)",
        source="torchtitan #4783, transformers #45902",
        replayed="a Llama under 4.57.6, and under 5.0.0 with `inv_freq.zero_()`",
        replay=partial(release_pair, PLAIN_LLAMA, "4.57.6", "5.0.0", Job(), changes=("inv_freq zeroed",)),
        names=("model.layers.0.self_attn", "first position 1,", "RoPE", "4.57.6 -> 5.0.0"),
        outcome=Outcome.SEMANTIC_DRIFT,
        tier=Tier.REFERENCE,
    ),
    Incident(
        id="I09",
        happened="the trainer added up the losses of accumulation steps (6.4, 13.7, 69 and 138 at 2, 4, 16 and 32)",
        source="transformers #34191, #35438, LLaMA-Factory #7443",
        replayed=f"a scorer under test that sums {ACCUMULATION_STEPS} steps",
        replay=partial(summed_loss, ACCUMULATION_STEPS),
        names=("each 4 times the golden",),
        outcome=Outcome.NUMERIC_DRIFT,
        tier=Tier.PAIRED,
    ),
    Incident(
        id="I10",
        happened="lm-eval 0.4 cuts texts into other windows than 0.3 (word perplexity 37.4 -> 71.8)",
        source="lm-evaluation-harness #814, #806",
        replayed="a Llama scored in windows of 512 instead of 1,024 tokens",
        replay=partial(other_windows, 512),
        names=("windows.context_lengths", "[1024] -> [512]"),
        outcome=Outcome.INPUTS_CHANGED,
        tier=Tier.IDENTITY,
    ),
)
