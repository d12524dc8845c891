"""Training: recipes, the loop, runs that resume, and their pictures."""

import fashion_mnist  # noqa: F401 - before torch, to say how its threads wait
