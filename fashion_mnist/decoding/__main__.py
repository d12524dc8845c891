"""The process that `isolated` starts: it decodes one image file from stdin and writes the picture to stdout."""

import json
import resource
import sys
from typing import Any

from fashion_mnist.decoding.formats import read_picture_here
from fashion_mnist.decoding.limits import Budget, Limits
from fashion_mnist.errors import InputError
from fashion_mnist.task import Task


def main() -> None:
    """Write a line of JSON, followed by the pixels and the alpha channel if there is one."""
    work: dict[str, Any] = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (work["memory"], work["memory"]))
    resource.setrlimit(resource.RLIMIT_CPU, (work["seconds"], work["seconds"]))
    budget = Budget(Limits(*work["limits"]), Task.from_card(work))
    try:
        picture = read_picture_here(sys.stdin.buffer.read(), work["format"], budget)
    except InputError as error:
        print(json.dumps({"error": error.code, "message": error.message}))
        return
    answer = {
        "shape": picture.pixels.shape,
        "width": picture.width,
        "height": picture.height,
        "notes": picture.notes,
    }
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + picture.pixels.tobytes())
    if picture.alpha is not None:
        sys.stdout.buffer.write(picture.alpha.tobytes())


if __name__ == "__main__":
    main()
