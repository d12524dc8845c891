"""The core: from bytes to an answer. It imports no other room of this project."""

import os

# Threads that wait for work sleep: spinning takes the processor from those that work where a machine is busy. OpenMP
# reads this once, when torch is imported, so it must come first; whoever has set it otherwise is heard.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "2.0.0"
