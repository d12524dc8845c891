"""The names of the handler's metrics, which TorchServe's configuration declares."""

from typing import Final

IMAGES: Final = "FashionMNISTImages"
"""Images that were predicted."""

REFUSED: Final = "FashionMNISTImagesRefused"
"""Images that were refused with an error; a request that was refused as a whole counts as one."""
