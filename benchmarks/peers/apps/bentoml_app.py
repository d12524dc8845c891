"""BentoML, as its documentation has it, and tuned: `bentoml serve bentoml_app:FashionMNIST`."""

import bentoml
import numpy as np
import orjson
import PIL.Image
from released import TUNED, answer, open_session, raw_pixels
from starlette.responses import Response

if TUNED:
    # Metrics and the access log cost more than the model does. Two workers: the load generator, at a few hundred
    # requests a second, leaves its core to them.
    @bentoml.service(
        name="fashion_mnist", workers=2, metrics={"enabled": False}, logging={"access": {"enabled": False}}
    )
    class FashionMNIST:
        """Raw bytes as the root input, and a ready answer, past pydantic.

        On the event loop: a thread costs more than one image takes.
        """

        def __init__(self):
            self._session = open_session()

        @bentoml.api(route="/predict")
        async def predict(self, pixels: bytes, /) -> dict:
            probabilities = self._session.run(None, {"images": raw_pixels(pixels)})[0][0]
            return Response(orjson.dumps(answer(probabilities)), media_type="application/json")

else:

    @bentoml.service
    class FashionMNIST:
        """A PNG as a form's field."""

        def __init__(self):
            self._session = open_session()

        @bentoml.api
        def predict(self, image: PIL.Image.Image) -> dict:
            pixels = np.asarray(image.convert("L"))[None, None]
            return answer(self._session.run(None, {"images": pixels})[0][0])
