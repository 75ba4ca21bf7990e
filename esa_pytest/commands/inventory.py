"""Every baseline of the matrix, and of the catalog, with what is there of it: golden, weights, reported figures."""

from esa_pytest.baselines.catalog import Baseline, baseline_of
from esa_pytest.errors import GoldenError
from esa_pytest.evaluation.availability import availability
from esa_pytest.evaluation.hub import Hub
from esa_pytest.evaluation.loading import DTYPE, device_class, resolve_device
from esa_pytest.golden.files import read_golden
from esa_pytest.golden.location import GoldenLocation
from esa_pytest.report.listing import ListedBaseline, listing_lines
from esa_pytest.settings import Settings


def inventory_lines(settings: Settings) -> list[str]:
    """What `esa list` shows.

    Raises:
        DeviceError: the device of the settings is not there.
    """
    device = device_class(resolve_device(settings.device))
    hub = Hub()
    known = {baseline.id for baseline in settings.baselines}
    others = [
        baseline_of(model_name, type_name, settings.catalog)
        for model_name, types in settings.catalog.reported.items()
        for type_name in types
        if f"{model_name}-{type_name}" not in known
    ]
    return listing_lines(
        [_listed(baseline, settings, device, hub) for baseline in settings.baselines],
        [_listed(baseline, settings, device, hub) for baseline in others],
        device=device,
    )


def _listed(baseline: Baseline, settings: Settings, device: str, hub: Hub) -> ListedBaseline:
    location = GoldenLocation(
        root=settings.golden_dir, folder=baseline.folder, device=device, dtype=str(DTYPE).removeprefix("torch.")
    )
    weights = availability(baseline.model, hub=hub)
    return ListedBaseline(
        id=baseline.id,
        golden=_golden_state(location),
        weights=weights.state,
        reason=weights.reason,
        reported=None if baseline.reported is None else baseline.reported.model_dump(),
    )


def _golden_state(location: GoldenLocation) -> str:
    try:
        golden = read_golden(location)
    except GoldenError:
        return "not to be trusted"
    if golden is not None:
        return str(golden.provenance.get("utc"))[:10]
    others = location.other_devices()
    return f"none ({', '.join(others)} only)" if others else "none"
