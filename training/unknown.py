"""How well scores tell the data set's images from others: `fashion_mnist.ood`'s, and two to compare it with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fashion_mnist.data.splits import Split
from fashion_mnist.network import Classifier
from fashion_mnist.ood import unknown_scores
from training.loop import predict
from training.others import KINDS

_SEED = 0


Scores = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.floating]]]
"""Takes images, uint8 [n, channels, height, width], and gives each one's value by the score's name, such as `score`."""


def separation(scores: Scores, test: Split, threshold: float) -> list[dict[str, Any]]:
    """A row for each kind of other images: as many of them as there are test images.

    `auroc` is the chance that an image of the kind has a higher score than a test image, by each of the scores.
    `flagged` is the share whose `score` is above the threshold; the first row gives it for the test images themselves.
    """
    known = scores(test.images)
    rows: list[dict[str, Any]] = [{"kind": "test images", "auroc": {}, "flagged": _share(known["score"], threshold)}]
    for kind, draw in KINDS.items():
        found = scores(draw(test.images[:, 0], np.random.default_rng(_SEED))[:, None])
        aurocs = {name: auroc(found[name], known[name]) for name in known}
        rows.append({"kind": kind, "auroc": aurocs, "flagged": _share(found["score"], threshold)})
    return rows


def auroc(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> float:
    """The chance that a positive has a higher value than a negative, ties counted by half: the area under the ROC."""
    ordered = np.sort(negatives)
    below, up_to = (np.searchsorted(ordered, positives, side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(negatives))


def scores_to_compare(classifier: Classifier, images: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
    """The score that answers carry, the doubt (one less the greatest probability) and the energy of the logits.

    The energy is less -log sum exp: arxiv.org/abs/2010.03759.
    """
    probabilities = predict(classifier, images)
    with torch.inference_mode():
        batches = torch.from_numpy(images.copy()).split(1000)
        logits = torch.cat([classifier.network(classifier.normalise(batch)) for batch in batches])
    return {
        "score": np.array(unknown_scores(probabilities)),
        "doubt": 1 - probabilities.max(axis=1),
        "energy": -torch.logsumexp(logits, 1).numpy(),
    }


def _share(scores: NDArray[np.floating], threshold: float) -> float:
    return float((scores > threshold).mean())
