"""The names of our metrics: the handler counts under them, and the server's configuration declares them."""

from typing import Final

IMAGES: Final = "FashionMNISTImages"
"""Images that were answered with a prediction."""

REFUSED: Final = "FashionMNISTImagesRefused"
"""Images that were answered with an error; a request that was refused as a whole counts as one."""
