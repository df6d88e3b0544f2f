"""Hypothesis profiles: small by default, ``--hypothesis-profile=long`` for a fuzzing run (``make fuzz``).

The long one takes some twenty minutes on two cores. A test with settings of its own must leave
``max_examples`` to the profile.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
"""A first example compiles kernels; that is not a slow generator."""

settings.register_profile("small", max_examples=60, deadline=None, suppress_health_check=SLOW)
settings.register_profile("long", max_examples=5_000, deadline=None, suppress_health_check=SLOW)
settings.load_profile("small")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_the_shell() -> Iterator[None]:
    """Take the user's own settings out of the environment, of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("BOOKRUNNER_")]:
            environment.delenv(name)
        yield
