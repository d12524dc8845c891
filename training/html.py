"""HTML pages that need no other file: pictures are data URIs."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import numpy as np

from fashion_mnist.encoding import encode_image

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left } img { max-width: 100% }
.images { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: 9rem; font-size: 12px }
.images img { width: 84px; image-rendering: pixelated }
.small { gap: .25rem } .small figure { width: 44px } .small img { width: 42px }
"""


def page(title: str, blocks: Iterable[str]) -> str:
    """A whole page of blocks of HTML; `title` is text."""
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n" + "\n".join(blocks) + "\n</html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; its cells are HTML."""
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "".join(lines) + "</table>"


def png(content: bytes, alt: str = "") -> str:
    """A PNG as an image; `alt` is text."""
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def gallery(
    places: Iterable[int],
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    *,
    small: bool = False,
) -> str:
    """The test images at `places`, with their labels and their three likeliest classes; `small` ones without words.

    Takes uint8 [n, c, h, w], labels [n] and float32 [n, classes].
    """
    figures = []
    for place in places:
        likeliest = "<br>".join(
            f"{escape(classes[index])} {probabilities[place, index]:.1%}"
            for index in np.argsort(-probabilities[place])[:3]
        )
        label = labels[place]
        caption = f"<b>{escape(classes[label])} {probabilities[place, label]:.1%}</b><br>{likeliest}"
        picture = png(encode_image(images[place]), f"test image {place}")
        figures.append(f"<figure>{picture}{'' if small else f'<figcaption>{caption}</figcaption>'}</figure>")
    return f'<div class="images{" small" if small else ""}">' + "".join(figures) + "</div>"
