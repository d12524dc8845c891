"""What the applications of the peers share: the released graph, the two ways an image comes, and the answer's shape."""

import io
import json
import os

import numpy as np
import onnxruntime
from PIL import Image

CLASSES = json.loads(os.environ["CLASSES"])
TUNED = os.environ["SETUP"] == "tuned"


def open_session():
    """The graph in ONNX Runtime; tuned, on one thread.

    One image is too little for two threads: the second one waits actively and takes its core from everybody else.
    """
    options = onnxruntime.SessionOptions()
    if TUNED:
        options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])


def png_pixels(content):
    """A PNG as the graph takes it: uint8 [1, 1, 28, 28]."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"))[None, None]


def raw_pixels(content):
    """784 bytes as the graph takes them: uint8 [1, 1, 28, 28]."""
    return np.frombuffer(content, np.uint8).reshape(1, 1, 28, 28)


def answer(probabilities):
    """What is said of one image, by its probabilities, float32 [10]: the same from every peer."""
    index = int(probabilities.argmax())
    row = dict(zip(CLASSES, probabilities.tolist(), strict=True))
    prediction = {"label": CLASSES[index], "index": index, "probabilities": row}
    return {"predictions": [prediction], "model_version": os.environ["VERSION"]}
