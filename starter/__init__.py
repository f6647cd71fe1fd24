"""Who starts and steers the cases: the command line, the monitor, the embedded servers."""

import os

# Pydantic looks through all that is installed for plugins, and none is used here: 25 ms of each command.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")
