"""Every incident is found, by the tier that can, with the cause that it can know; no negative control is."""

from functools import cache
from pathlib import Path

import pytest
import torch

from esa_pytest.golden.environment import instruction_set
from tests.incidents.catalog import INCIDENTS, Incident
from tests.incidents.controls import CONTROLS, Control
from tests.incidents.found import Found
from tests.incidents.table import document

DOCUMENT = Path(__file__).parents[2] / "docs" / "incidents.md"
pytestmark = [pytest.mark.incidents, pytest.mark.timeout(3600)]


@cache
def replayed(incident: Incident | Control) -> Found:
    return incident.replay()


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.id)
def test_incident_is_found_and_its_cause_named(incident: Incident) -> None:
    found = replayed(incident)
    assert found.outcome in (incident.outcome, incident.or_else), found.reason
    assert found.tier is incident.tier, found.reason
    for name in incident.names:
        assert name in found.named


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.changed)
def test_negative_control_passes(control: Control) -> None:
    found = replayed(control)
    assert found.outcome in (control.outcome, control.or_else), found.reason


def test_another_kernel_is_rounding_and_no_meaning() -> None:
    (incident,) = (incident for incident in INCIDENTS if incident.id == "I05")
    assert "rounding changed, meaning did not" in replayed(incident).reason


def test_the_table_is_written() -> None:
    text = document(
        {incident.id: replayed(incident) for incident in INCIDENTS},
        [(control, replayed(control)) for control in CONTROLS],
        catalog=INCIDENTS,
        made_with=f"torch {torch.__version__}, {instruction_set()}",
    )
    DOCUMENT.write_text(text, encoding="utf-8")
