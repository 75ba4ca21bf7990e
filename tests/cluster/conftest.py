"""The user's project of the plugin tests, for runs in several processes."""

from tests.plugin.conftest import (  # noqa: F401  (fixtures)
    bits_taken_for_stable,
    kept_recording,
    project,
    recorded,
    tiny_llama,
)
from tests.threads import one_thread_a_worker  # noqa: F401  (a fixture of every test here)
