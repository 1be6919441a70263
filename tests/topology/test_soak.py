"""The soak of `make soak`, for some seconds."""

import pytest

from .lab import Lab
from .soak import soak

pytestmark = pytest.mark.alone


@pytest.mark.timeout(120)
def test_a_short_soak(lab: Lab) -> None:
    """Deaths, changes and flaps: what is not concerned loses nothing, and nothing grows."""
    print(*soak(lab, 12), sep="\n")
