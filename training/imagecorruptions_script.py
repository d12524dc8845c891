"""One of ImageNet-C's corruptions, by the package `imagecorruptions`, in whose environment this runs: without ours.

    python imagecorruptions_script.py KIND COUNT CORRUPTED.npy

Reads COUNT images from stdin, uint8 [n, 28, 28], and writes uint8 [5, n, 28, 28], the weakest of five strengths first.
The corruptions are made for photographs: each image is enlarged to 112 x 112, corrupted and shrunk by averaging areas.
"""

import sys

import cv2
import numpy as np
from imagecorruptions import corrupt, get_corruption_names

SIDE = 112
STRENGTHS = 5


def main() -> None:
    kind, count, target = sys.argv[1:]
    images = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(int(count), 28, 28)
    cv2.setNumThreads(1)
    found = np.empty((STRENGTHS, *images.shape), np.uint8)
    for strength in range(STRENGTHS):
        # The same images are corrupted the same way, whichever kinds are made besides.
        np.random.seed([get_corruption_names().index(kind), strength])
        for place, image in enumerate(images):
            large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            corrupted = corrupt(cv2.merge([large] * 3), corruption_name=kind, severity=strength + 1)
            gray = cv2.cvtColor(np.ascontiguousarray(corrupted), cv2.COLOR_RGB2GRAY)
            found[strength, place] = cv2.resize(gray, images.shape[:0:-1], interpolation=cv2.INTER_AREA)
    np.save(target, found)


if __name__ == "__main__":
    main()
