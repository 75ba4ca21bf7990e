"""Score checkpoints under whatever transformers is found first: `python score.py < request.json`.

Stands alone, since the releases that had the incidents are older than what this project supports: it needs torch,
transformers and numpy, and the oldest release that it runs under is 4.31. The request is a JSON object with `jobs`, a
list of objects with the keys of `tests.incidents.jobs.Job` and these:

    folder   the checkpoint
    tokens   an .npz with `input_ids` (windows, context_length), `targets` (windows, scored), `probe_ids` (tokens + 1,)
             and `sampled`, the tokens whose likeliest ids are kept
    points   names of the modules whose output is kept while the reference runs
    target   the .npz to write

The last line on standard output is `ANSWER` and a JSON list, an object a job: what was loaded, or why nothing was.
"""

import importlib.metadata
import json
import math
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

# Raised whenever the same job could give other arrays.
SCORER_VERSION = 1
ANSWER = "esa-incident "
TOP_K = 10
# `point/12/model.layers.3.mlp` is what a module put out, with its place in the order of execution.
POINT = "point/"
PACKAGES = ("huggingface_hub", "numpy", "safetensors", "tokenizers", "torch", "transformers")
FLIPPED_WEIGHTS = 64
ULP = 2.0**-23
# Before 4.36 there is one attention implementation, and no argument that chooses it.
_CHOOSES_ATTENTION = tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (4, 36)


def main() -> None:
    """Do every job of the request on standard input."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    answers = []
    for job in json.load(sys.stdin)["jobs"]:
        try:
            answers.append(done(job))
        except Exception as error:  # noqa: BLE001  (an old release may raise anything; the caller is told what)
            answers.append({"refusal": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:300]})
    sys.stdout.write(f"\n{ANSWER}{json.dumps(answers)}\n")


def done(job: dict[str, Any]) -> dict[str, str]:
    """Score and probe as a job says; the arrays go to its target, what was loaded is returned."""
    with np.load(job["tokens"], allow_pickle=False) as file:
        tokens = {name: torch.from_numpy(file[name]) for name in file.files}
    torch.set_num_threads(job["threads"])
    arrays: dict[str, Any] = {}
    with torch.inference_mode():
        network = loaded(job, job["attention"])
        if job["scored"]:
            with ExitStack() as stack:
                changed(network, job["changes"], stack)
                arrays |= scores(network, tokens, job)
        if job["probed"]:
            with ExitStack() as stack:
                twin = loaded(job, job["reference_attention"])
                changed(twin, job["changes"], stack)
                arrays |= probe(twin, tokens["probe_ids"], job)
    np.savez(job["target"], **arrays)
    dtypes = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in network.parameters()})
    return {
        "architecture": type(network).__name__,
        "dtype": "+".join(dtypes),
        "attention": attention_of(network),
        **{f"version.{name}": importlib.metadata.version(name) for name in PACKAGES},
    }


def attention_of(network: Any) -> str:
    """The implementation that a network runs with; an old release has but one."""
    return str(getattr(network.config, "_attn_implementation", None) or "eager")


def loaded(job: dict[str, Any], attention: str | None) -> Any:
    """The network of a checkpoint folder, in evaluation mode."""
    options: dict[str, Any] = {}
    if job["dtype"] is not None:
        # The older name, which every release understands.
        options["torch_dtype"] = getattr(torch, job["dtype"])
    if attention is not None and _CHOOSES_ATTENTION:
        options["attn_implementation"] = attention
    network, report = transformers.AutoModelForCausalLM.from_pretrained(
        job["folder"], local_files_only=True, output_loading_info=True, **options
    )
    known = dict(network.named_parameters())
    missing = sorted(name for name in report["missing_keys"] if name in known)
    if missing:
        raise ValueError(f"this release makes up {len(missing)} tensors, {missing[0]} first")
    if attention is not None and attention_of(network) != attention:
        raise ValueError(f"this release has no {attention} attention for {type(network).__name__}")
    return network.eval()


def inputs(ids: Tensor, job: dict[str, Any]) -> dict[str, Tensor]:
    """What the network is called with for windows (windows, context_length), padded and counted as the job says."""
    padding, first = job["left_padding"], job["first_position"]
    if not padding and not first and not job["explicit_mask"]:
        return {"input_ids": ids}
    windows, length = ids.shape
    positions = torch.cat([torch.zeros(padding, dtype=torch.int64), torch.arange(first, first + length)])
    return {
        "input_ids": torch.cat([torch.zeros((windows, padding), dtype=ids.dtype), ids], dim=1),
        "attention_mask": torch.cat([torch.zeros(windows, padding), torch.ones(windows, length)], dim=1).long(),
        "position_ids": positions[None].expand(windows, -1),
    }


def scores(network: Any, tokens: dict[str, Tensor], job: dict[str, Any]) -> dict[str, Any]:
    """NLL and argmax of every target (tokens,), the likeliest ids of the sampled ones (sample, TOP_K)."""
    nll, argmax, ids, log_probability = [], [], [], []
    scored = tokens["targets"].shape[1]
    for begin in range(0, len(tokens["input_ids"]), job["windows_at_once"]):
        rows = slice(begin, begin + job["windows_at_once"])
        logits = network(**inputs(tokens["input_ids"][rows], job), use_cache=False).logits[:, -scored:]
        wide = logits.flatten(0, 1).double().contiguous()
        total = wide.logsumexp(dim=-1)
        nll.append(total - wide.gather(-1, tokens["targets"][rows].long().flatten()[:, None])[:, 0])
        argmax.append(wide.argmax(dim=-1))
        top = wide.topk(TOP_K, dim=-1)
        ids.append(top.indices)
        log_probability.append(top.values - total[:, None])
    sampled = tokens["sampled"]
    return {
        "nll": torch.cat(nll).float().numpy(),
        "argmax": torch.cat(argmax).int().numpy(),
        "top_ids": torch.cat(ids)[sampled].int().numpy(),
        "top_log_probability": torch.cat(log_probability)[sampled].float().numpy(),
    }


def probe(network: Any, ids: Tensor, job: dict[str, Any]) -> dict[str, Any]:
    """The same weights in float32: the NLL of ids[1:] in float64, and what the modules at the points put out.

    Parameters are widened and buffers are not: a rotary embedding that the release holds in bf16 is part of what is
    computed.
    """
    for parameter in network.parameters():
        parameter.data = parameter.data.float()
    kept: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            values = output[0] if isinstance(output, tuple) else output
            if isinstance(values, Tensor) and values.dim() == 3:
                # Padding and all it touches are no part of the text.
                kept[f"{POINT}{len(kept)}/{name}"] = values[:, -(len(ids) - 1) :].numpy().copy()

        return hook

    handles = [
        module.register_forward_hook(keep(name)) for name, module in network.named_modules() if name in job["points"]
    ]
    body = getattr(network, network.base_model_prefix)
    hidden = body(**inputs(ids[None, :-1], job), use_cache=False).last_hidden_state[0, -(len(ids) - 1) :]
    for handle in handles:
        handle.remove()
    wide = network.get_output_embeddings()(hidden).double()
    nll = wide.logsumexp(dim=-1) - wide.gather(-1, ids[1:, None])[:, 0]
    return {"probe_nll": nll.numpy(), **kept}


def changed(network: Any, changes: list[str], stack: ExitStack) -> None:
    """Make the named changes, one after the other; `last bits:3` hands 3 to `last bits`."""
    for change in changes:
        name, _, argument = change.partition(":")
        CHANGES[name](network, int(argument or 0), stack)


def to_bfloat16(network: Any, _: int, __: ExitStack) -> None:
    """What a user does who loads in float32 and narrows afterwards: buffers are narrowed with the parameters."""
    network.to(torch.bfloat16)


def each_frequency(change: Callable[[Tensor], Tensor]) -> Callable[[Any, int, ExitStack], None]:
    """A change of every `inv_freq`."""

    def made(network: Any, _: int, __: ExitStack) -> None:
        for name, buffer in network.named_buffers():
            if name.endswith("inv_freq"):
                buffer.copy_(change(buffer))

    return made


def jittered_frequencies(network: Any, seed: int, _: ExitStack) -> None:
    """Every RoPE frequency off by its last bit."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in network.named_buffers():
        if name.endswith("inv_freq"):
            buffer.mul_(factors(buffer, generator))


def jittered_layers(network: Any, seed: int, stack: ExitStack) -> None:
    """Every number that a decoder layer puts out off by its last bit; in front of the hooks that look at it."""
    generator = torch.Generator().manual_seed(seed)

    def jitter(_module: nn.Module, _inputs: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * factors(output[0], generator), *output[1:])
        return output * factors(output, generator)

    for layer in decoder_layers(network):
        stack.callback(layer.register_forward_hook(jitter).remove)


def factors(values: Tensor, generator: torch.Generator) -> Tensor:
    """1 plus or minus one unit in the last place."""
    return 1.0 + ULP * (torch.randint(0, 2, values.shape, generator=generator).to(values.dtype) * 2.0 - 1.0)


def flipped_last_bits(network: Any, seed: int, __: ExitStack) -> None:
    """The last bit of some bf16 weights of the first layer flipped; the network is thrown away afterwards."""
    matrices = [p.data for p in decoder_layers(network)[0].parameters() if p.dim() == 2]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(FLIPPED_WEIGHTS):
        matrix = matrices[int(torch.randint(len(matrices), (), generator=generator))]
        row, column = divmod(int(torch.randint(matrix.numel(), (), generator=generator)), matrix.shape[1])
        matrix.view(torch.int16)[row, column] ^= 1


def decoder_layers(network: Any) -> list[nn.Module]:
    """The repeated blocks: the longest ModuleList."""
    return list(max((m for m in network.modules() if isinstance(m, nn.ModuleList)), key=lambda stack: len(list(stack))))


def norms_in_float32(network: Any, _: int, stack: ExitStack) -> None:
    """Every RMSNorm multiplies by its weight before it rounds, where the release rounds first."""
    for module in network.modules():
        if type(module).__name__.endswith("RMSNorm"):
            stack.enter_context(replaced_forward(module))


@contextmanager
def replaced_forward(norm: Any) -> Any:
    """One RMSNorm in float32 throughout while the block runs."""

    def forward(states: Tensor) -> Tensor:
        wide = states.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.variance_epsilon)
        weighted: Tensor = norm.weight.float() * scaled
        return weighted.to(states.dtype)

    norm.forward = forward
    try:
        yield
    finally:
        del norm.forward


def squared_scaling(network: Any, _: int, __: ExitStack) -> None:
    """The softmax scale applied twice."""
    for module in network.modules():
        if isinstance(getattr(module, "scaling", None), float) and not math.isclose(module.scaling, 1.0):
            module.scaling = module.scaling**2


CHANGES: dict[str, Callable[[Any, int, ExitStack], None]] = {
    "to bfloat16": to_bfloat16,
    "inv_freq zeroed": each_frequency(torch.zeros_like),
    "inv_freq in bfloat16": each_frequency(lambda values: values.bfloat16().float()),
    "last bit of inv_freq": jittered_frequencies,
    "last bit of layer outputs": jittered_layers,
    "last bits": flipped_last_bits,
    "norms in float32": norms_in_float32,
    "scaling squared": squared_scaling,
}


if __name__ == "__main__":
    main()
