"""Settings for all tests."""

from hypothesis import settings

# How long an example takes says nothing on a machine that does other things beside the tests.
settings.register_profile("mcr", deadline=None)
settings.load_profile("mcr")
