"""Who starts and steers the cases: the command line, the monitor, the embedded servers."""

import gc
import os

AS_PYTHON_HAS_IT = gc.get_threshold()
# What is imported lives as long as the process: looking through it again and again is 7% of a command's time.
gc.set_threshold(100_000, 50, 50)

# Pydantic looks through all that is installed for plugins, and none is used here: 25 ms of each command.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")
