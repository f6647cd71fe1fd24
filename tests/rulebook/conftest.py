"""How properties are searched."""

from hypothesis import settings

# A slow machine is no fault of the rulebook.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
