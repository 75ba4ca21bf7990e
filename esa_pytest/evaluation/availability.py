"""Whether a model's weights could be loaded now, without fetching or loading any."""

from dataclasses import dataclass

from esa_pytest.baselines.sources import FolderModel, HubModel, ModelSource, RandomModel, WheelModel
from esa_pytest.evaluation.conversion import converted_folder
from esa_pytest.evaluation.hub import Hub, cached_snapshot


@dataclass(frozen=True, kw_only=True)
class Availability:
    """What stands between a model and its evaluation.

    Attributes:
        state: in a few words.
        reason: why the weights cannot be had, as a clause; None where they can.
    """

    state: str
    reason: str | None = None


def availability(model: ModelSource, *, hub: Hub) -> Availability:
    """Whether the weights are here, can be fetched, or cannot be had."""
    match model:
        case RandomModel():
            return Availability(state="made on the device")
        case FolderModel():
            if model.path.is_dir():
                return Availability(state="ready")
            return Availability(state="unreachable", reason=f"there is no folder {model.path}")
        case WheelModel():
            if converted_folder(model).is_dir():
                return Availability(state="ready")
            return Availability(state=f"to be fetched ({model.wheel_bytes / 1e6:.0f} MB)")
        case HubModel():
            if cached_snapshot(model) is not None:
                return Availability(state="ready")
            if reason := hub.unreachable_reason():
                return Availability(state="unreachable", reason=f"{reason}, and its cache lacks the model")
            return Availability(state="to be fetched")
