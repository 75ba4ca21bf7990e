"""What a session of pytest keeps for those that may not load what the session loads."""

import pytest

# The ids of baselines that were checked by all rules, here or by an earlier run whose verdict stands.
CHECKED = pytest.StashKey[set[str]]()
