"""The core: decoding, preparation, inference and answers. It imports no other package of this project."""

import os

# Idle threads sleep instead of spinning, which would take CPU time from others on a busy machine. OpenMP reads this
# once, when torch is imported, so it must come first; an existing value is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "2.0.0"
