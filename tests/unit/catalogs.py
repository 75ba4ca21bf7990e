"""Catalogs with a user's additions, and the refusals of those that are not valid."""

from pathlib import Path
from typing import Any

import pytest

from esa_pytest.baselines.catalog import Catalog, load_catalog
from esa_pytest.errors import SettingError

ROOT = Path("/project")
REVISION = "0123456789abcdef" * 2 + "01234567"


def catalog(**additions: Any) -> Catalog:
    return load_catalog(additions, folder=ROOT)


def refusal(**additions: Any) -> str:
    with pytest.raises(SettingError) as caught:
        catalog(**additions)
    return str(caught.value)
