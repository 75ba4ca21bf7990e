"""How a model that is too large for one GPU is split, as options of `from_pretrained` and as a name for people."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esa_pytest.baselines.sources import DeviceMap, ModelSource
from esa_pytest.errors import RanksMissingError
from esa_pytest.evaluation.ranks import world_size


@dataclass(frozen=True, kw_only=True)
class Split:
    """How a model lies on its devices.

    Attributes:
        device_map: accelerate's strategy where one was asked for.
        ranks: over how many ranks of torchrun its matrices are split; 1 for whole matrices.
    """

    device_map: DeviceMap | None = None
    ranks: int = 1

    def options(self) -> dict[str, Any]:
        """What `from_pretrained` is told of tensor parallelism; nothing where there is none."""
        if self.ranks == 1:
            return {}
        try:
            from transformers.distributed import DistributedConfig
        except ImportError:
            return {"tp_plan": "auto"}
        fields = getattr(DistributedConfig, "__dataclass_fields__", {})
        # Releases before 5 have the class for experts only.
        return {"distributed_config": DistributedConfig(tp_plan="auto")} if "tp_plan" in fields else {"tp_plan": "auto"}

    def placement(self, devices: str, device_map: Mapping[str, object] | None) -> str:
        """What the environment holds of it: another split adds up in another order, and rounds otherwise.

        Args:
            devices: the devices that parameters lie on, as `cuda` or `cuda:0 cuda:1`.
            device_map: where accelerate put each module, in their order.
        """
        if self.ranks > 1:
            return f"{devices}, tensor parallel over {self.ranks} ranks"
        if self.device_map is None:
            return devices
        return f"{devices}, device_map {self.device_map}{boundaries(device_map or {})}"


WHOLE = Split()


def split_of(name: str, model: ModelSource) -> Split:
    """How a model is to be split in this process.

    Raises:
        RanksMissingError: it needs the ranks of torchrun and there are none, or the other way round.
    """
    ranks = world_size()
    if model.tensor_parallel and ranks == 1:
        raise RanksMissingError(
            f"The model {name} is tensor_parallel and this is a single process; run it alone with "
            f"torchrun --nproc-per-node {model.gpus} -m pytest -k {name}."
        )
    if ranks > 1 and not model.tensor_parallel:
        raise RanksMissingError(
            f"The model {name} is not tensor_parallel, and {ranks} ranks of torchrun would each judge the whole of it; "
            f"run it without torchrun, or set tensor_parallel in [tool.esa.models]."
        )
    return Split(device_map=model.device_map, ranks=ranks)


def boundaries(device_map: Mapping[str, object]) -> str:
    """The first module on each further device, as `, split at model.layers.16`; nothing where all lies on one."""
    pairs = itertools.pairwise(device_map.items())
    borders = [name for (_, before), (name, device) in pairs if str(device) != str(before)]
    return f", split at {' '.join(borders)}" if borders else ""
