"""Training: recipes, the loop, runs that resume, and their pictures."""

import os

# Before torch is imported: on a busy machine, threads that spin while they wait take the others' time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
