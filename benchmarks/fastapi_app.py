"""How this network is usually served by hand: FastAPI, Pillow and ONNX Runtime in one file.

Run by `benchmarks.fastapi_server` in an environment that has nothing of ours.
"""

import io
import json
import os
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request
from PIL import Image

CLASSES = json.loads(os.environ["CLASSES"])

options = onnxruntime.SessionOptions()
if threads := os.environ.get("THREADS"):
    options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


@app.post("/predictions/fashion_mnist")
async def predict(request: Request) -> dict[str, Any]:
    """One image, as a file of any size or as 784 bytes; the answer has the shape of ours."""
    body = await request.body()
    if request.headers["content-type"].startswith("image/"):
        image = np.asarray(Image.open(io.BytesIO(body)).convert("L").resize((28, 28)))
    else:
        image = np.frombuffer(body, np.uint8).reshape(28, 28)
    probabilities = session.run(None, {"images": image[None, None]})[0][0]
    index = int(probabilities.argmax())
    row = dict(zip(CLASSES, probabilities.tolist(), strict=True))
    prediction = {"label": CLASSES[index], "index": index, "probabilities": row}
    return {"predictions": [prediction], "model_version": os.environ["VERSION"]}
