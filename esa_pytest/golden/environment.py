"""The fingerprint of everything that may change bits and not meaning, as flat named strings."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from esa_pytest.evaluation.attention import attention_of
from esa_pytest.evaluation.evaluate import Round
from esa_pytest.evaluation.loading import LoadedModel
from esa_pytest.evaluation.scoring import CHUNK_ROWS, SCORING_VERSION

# What computes, and what transformers cannot do without in a release that goes with its own.
PACKAGES = (
    "accelerate",
    "flash_attn",
    "huggingface_hub",
    "kernels",
    "numpy",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "triton",
)
# Variables that choose kernels or their order of summation. scikit-learn, which transformers imports where it is there,
# sets the two of KMP's that do neither, so that a run would differ from one in which nothing had imported it yet.
_VARIABLE = re.compile(
    r"^(ATEN_CPU_CAPABILITY|(ONE)?DNNL?_\w+|TORCH_MKLDNN\w*|MKL_\w+|OMP_\w+|KMP_(?!DUPLICATE_LIB_OK$|INIT_AT_FORK$)\w+"
    r"|CUBLAS(?!_WORKSPACE_CONFIG)\w*|CUDNN_\w+|NVIDIA_TF32_OVERRIDE"
    r"|TORCH_ALLOW_TF32\w*|TORCH_BLAS\w*|PYTORCH_NVML\w*|PYTORCH_TUNABLEOP\w*|DISABLE_ADDMM_CUDA_LT)$"
)
_CPUINFO = Path("/proc/cpuinfo")
# From the widest down: the first that the machine has and that is not forbidden names its bf16 arithmetic.
_INSTRUCTION_SETS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def environment_of(model: LoadedModel, done: Round, *, packages: Sequence[str] = ()) -> dict[str, str]:
    """The fingerprint of a run, sorted by name; `packages` are distributions recorded beside those that always are."""
    chunk_tokens = done.prepared.chunk_tokens
    found = {
        **device_facts(model.device),
        **versions(packages),
        **done.flags,
        **variables(),
        "attention": attention_of(model.network),
        "batch_shapes": done.batch_shapes,
        "placement": model.placement,
        "scoring.chunk_rows": str(CHUNK_ROWS),
        "scoring.head": done.head,
        "scoring.version": str(SCORING_VERSION),
        **({} if chunk_tokens is None else {"scoring.prefill_tokens": str(chunk_tokens)}),
        **({"scoring.products": "in float32"} if done.widened else {}),
    }
    return dict(sorted(found.items()))


def device_facts(device: torch.device) -> dict[str, str]:
    """What a device is: processor and instruction set, and the GPU with its driver or the threads of the CPU."""
    found = {"cpu.model": cpu_model(), "cpu.instruction_set": instruction_set()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["cuda.device"] = properties.name
        found["cuda.driver"] = _cuda_driver()
        found["cuda.runtime"] = str(torch.version.cuda)
        found["cuda.cudnn"] = str(torch.backends.cudnn.version())
    else:
        found["cpu.threads"] = str(torch.get_num_threads())
    return found


def cpu_model() -> str:
    """What the processor calls itself."""
    return _cpuinfo_field("model name") or platform.processor() or platform.machine()


def instruction_set() -> str:
    """The arithmetic that bf16 products run in here, as torch and oneDNN are allowed to use it, e.g. `avx512_bf16`."""
    allowed = torch.backends.cpu.get_cpu_capability().lower()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    flags = set((_cpuinfo_field("flags") or "").split())
    widest = next((name for name in _INSTRUCTION_SETS if name in flags), allowed)
    name = widest if allowed.startswith("avx512") else allowed
    return f"{name}, oneDNN up to {limit}" if limit else name


def _cpuinfo_field(name: str) -> str | None:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.partition(":")[0].strip() == name), None)


def _cuda_driver() -> str:
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0].strip()
    except OSError:
        return "unknown"


def variables() -> dict[str, str]:
    """The variables that choose kernels or their order of summation, as they stand."""
    return {f"env.{name}": value for name, value in os.environ.items() if _VARIABLE.match(name)}


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """The versions that are here: of python, the platform, our packages and these, and of what torch was built with."""
    found = {
        "version.python": platform.python_version(),
        "version.platform": f"{platform.system()}-{platform.machine()}",
    }
    for package in (*PACKAGES, *packages):
        version = _version(package)
        if version is not None:
            found[f"version.{package}"] = version
    # The libraries that torch was built with decide the kernels as much as torch does.
    configuration = torch.__config__.show()
    for name, pattern in (("onednn", r"MKL-DNN v([\d.]+)"), ("mkl", r"Math Kernel Library Version ([\d.]+)")):
        if match := re.search(pattern, configuration):
            found[f"version.{name}"] = match[1]
    return found


def missing_package_notes(packages: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each distribution that a user wants recorded and that is not here: a typo would go unseen."""
    return tuple(
        f"{package!r} of [tool.esa] packages is not installed here, so no version of it is recorded; correct its name, "
        f"or install it."
        for package in packages
        if _version(package) is None
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
