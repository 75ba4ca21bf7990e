"""The same examples in every run, no time limit on a shared machine, and a cache of these tests' own."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("unit", deadline=None, derandomize=True)
settings.load_profile("unit")


@pytest.fixture(scope="package", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Of this package alone: whatever else runs in the same process finds in the user's cache what was fetched already.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESA_CACHE", str(tmp_path_factory.mktemp("esa-cache")))
        yield
