"""Photographs rendered from images of the data set: a garment before a ground, in some light, saved as a JPEG.

What a photograph shows is a pure function of the image, the kind and the seed. Kinds are how people's pictures differ
from the data set: ground, light, tint, shadow, noise, place, size, rotation and compression. An image's pixels are
dye: 0 is the undyed fabric, or no garment at all, and 255 the fabric's full colour, as in the paper's own negatives.
"""

import io
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]
Texture: TypeAlias = Callable[[Floats, Floats, np.random.Generator], Floats]
"""A ground's brightness, 1 on average, at x and y, both in shares of the longer side."""

WORKING_SIDE: Final = 448
"""The longer side, in pixels, to which a decoder scales what is larger."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One photograph's making. Colours are red, green and blue from 0 to 1; lengths are shares of the longer side."""

    width: int
    height: int
    ground: Colour
    fabric: Colour
    undyed: Colour
    """The fabric's colour where an image is darkest."""
    garments: tuple[tuple[float, float, float, float], ...]
    """Of each its centre, x and y, its side and its rotation in degrees."""
    light: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """How much light falls off along x, along y and from the middle to the corners."""
    tint: Colour = (1.0, 1.0, 1.0)
    shadow: float = 0.0
    """The share of light that it takes where it is deepest."""
    texture: Texture | None = None
    noise: float = 0.0
    """Standard deviation, in levels of 255."""
    quality: int = 88


def photograph(images: Sequence[Pixels], kind: str, seed: int) -> bytes:
    """A JPEG of 300 to 1,700 pixels that shows the garment of the first image; `two` shows the second's too.

    `images` are uint8 [height, width], bright on black, `kind` is a key of KINDS, KEPT_ASIDE or CASES.
    """
    rng = _generator(kind, seed)
    return _render(_scene(kind, rng), images, rng)


def cut_out(image: Pixels, kind: str, seed: int) -> Pixels:
    """The garment of the same photograph, as if found without a fault: its dye, uint8 [h, w], on black."""
    scene = _scene(kind, _generator(kind, seed))
    longer = max(scene.width, scene.height)
    if longer > WORKING_SIDE:
        width, height = (max(1, round(side * WORKING_SIDE / longer)) for side in (scene.width, scene.height))
        scene = replace(scene, width=width, height=height)
    return _levels(255 * _dye(scene, scene.garments[0], image))


def read(content: bytes) -> Pixels:
    """A JPEG's pixels at working size, uint8 [h, w, 3]."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.draft("RGB", (WORKING_SIDE, WORKING_SIDE))
        pixels = picture.convert("RGB")
    longer = max(pixels.size)
    if longer > WORKING_SIDE:
        width, height = (max(1, round(side * WORKING_SIDE / longer)) for side in pixels.size)
        pixels = pixels.resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(pixels)


def _generator(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(kind.encode()), seed])


def _scene(kind: str, rng: np.random.Generator) -> Scene:
    return {**KINDS, **KEPT_ASIDE, **CASES}[kind](rng)


def _plain(rng: np.random.Generator) -> Scene:
    """A product photograph: what all kinds begin with."""
    longer = round(math.exp(rng.uniform(math.log(300), math.log(1700))))
    shorter = round(longer * rng.choice([1.0, 0.8, 0.75, 2 / 3]))
    width, height = (longer, shorter) if rng.random() < 0.5 else (shorter, longer)
    # Almost as large as fits, almost in the middle.
    side = shorter / longer * rng.uniform(0.78, 0.94)
    x, y = (length / longer / 2 + rng.uniform(-0.02, 0.02) for length in (width, height))
    white = rng.uniform(0.96, 1.0)
    return Scene(
        width, height, (white,) * 3, _dark(rng), (white,) * 3, ((x, y, side, 0.0),), quality=int(rng.integers(80, 96))
    )


def _dark(rng: np.random.Generator) -> Colour:
    """A fabric of any hue, darker than light grounds."""
    return _colour(rng, rng.uniform(0.1, 0.4), 0.12)


def _colour(rng: np.random.Generator, brightness: float, saturation: float) -> Colour:
    red, green, blue = np.clip(brightness + rng.uniform(-saturation, saturation, 3), 0.02, 1)
    return float(red), float(green), float(blue)


def _on(scene: Scene, ground: Colour, rng: np.random.Generator) -> Scene:
    """Before another ground: what is undyed is of its colour or somewhat lighter."""
    lighter = rng.uniform(0, 0.25)
    red, green, blue = (value + lighter * (1 - value) for value in ground)
    return replace(scene, ground=ground, undyed=(red, green, blue))


def _pastel(rng: np.random.Generator) -> Scene:
    return _on(_plain(rng), _colour(rng, rng.uniform(0.7, 0.85), 0.12), rng)


def _wall(rng: np.random.Generator) -> Scene:
    scene = _on(_plain(rng), _colour(rng, rng.uniform(0.6, 0.85), 0.04), rng)
    across, down = rng.uniform(0.15, 0.5) * rng.choice([-1, 1]), rng.uniform(-0.2, 0.2)
    return replace(scene, light=(across, down, rng.uniform(0, 0.1)))


def _dim(rng: np.random.Generator) -> Scene:
    ground = _colour(rng, rng.uniform(0.05, 0.16), 0.03)
    fabric = _colour(rng, rng.uniform(0.4, 0.65), 0.08)
    return replace(_plain(rng), ground=ground, undyed=ground, fabric=fabric, noise=rng.uniform(2, 5))


def _tinted(rng: np.random.Generator) -> Scene:
    tint = (1.0, rng.uniform(0.75, 0.95), rng.uniform(0.4, 0.8))
    scene = _on(_plain(rng), _colour(rng, rng.uniform(0.75, 0.95), 0.03), rng)
    return replace(scene, tint=tint if rng.random() < 0.5 else (tint[2], tint[1], tint[0]))


def _shadowed(rng: np.random.Generator) -> Scene:
    return replace(_on(_plain(rng), _colour(rng, rng.uniform(0.8, 0.95), 0.03), rng), shadow=rng.uniform(0.12, 0.35))


def _noisy(rng: np.random.Generator) -> Scene:
    return replace(_on(_plain(rng), _colour(rng, rng.uniform(0.6, 0.9), 0.06), rng), noise=rng.uniform(8, 18))


def _off_centre(rng: np.random.Generator) -> Scene:
    scene = _on(_plain(rng), _colour(rng, rng.uniform(0.75, 0.95), 0.05), rng)
    width, height = (length / max(scene.width, scene.height) for length in (scene.width, scene.height))
    side = min(width, height) * rng.uniform(0.4, 0.7)
    x, y = (side / 2 + rng.uniform(0.03, 0.97) * (length - side) for length in (width, height))
    return replace(scene, garments=((x, y, side, 0.0),))


def _rotated(rng: np.random.Generator) -> Scene:
    scene = _on(_plain(rng), _colour(rng, rng.uniform(0.75, 0.95), 0.05), rng)
    ((x, y, side, _),) = scene.garments
    return replace(scene, garments=((x, y, side * 0.93, rng.uniform(1, 5) * rng.choice([-1, 1])),))


def _compressed(rng: np.random.Generator) -> Scene:
    return replace(_on(_plain(rng), _colour(rng, rng.uniform(0.7, 0.9), 0.08), rng), quality=int(rng.integers(12, 30)))


def _mixed(rng: np.random.Generator) -> Scene:
    scene = _off_centre(rng)
    ((x, y, side, _),) = scene.garments
    return replace(
        _on(scene, _colour(rng, rng.uniform(0.6, 0.9), 0.08), rng),
        garments=((x, y, side * 0.95, rng.uniform(-3, 3)),),
        light=(rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), rng.uniform(0, 0.08)),
        tint=(1.0, rng.uniform(0.85, 1), rng.uniform(0.7, 1)),
        shadow=rng.uniform(0, 0.2),
        noise=rng.uniform(1, 8),
        quality=int(rng.integers(35, 90)),
    )


def _wood(rng: np.random.Generator) -> Scene:
    return replace(_on(_plain(rng), (0.8, rng.uniform(0.6, 0.68), rng.uniform(0.42, 0.5)), rng), texture=_grain)


def _two_gradients(rng: np.random.Generator) -> Scene:
    scene = _on(_plain(rng), _colour(rng, rng.uniform(0.7, 0.9), 0.05), rng)
    across, down = (rng.uniform(0.2, 0.4) * rng.choice([-1, 1]) for _ in range(2))
    return replace(scene, light=(across, down, 0.0), noise=rng.uniform(1, 4))


def _textile(rng: np.random.Generator) -> Scene:
    return replace(_on(_plain(rng), _colour(rng, rng.uniform(0.65, 0.85), 0.08), rng), texture=_weave)


def _vignetted(rng: np.random.Generator) -> Scene:
    scene = _on(_plain(rng), _colour(rng, rng.uniform(0.75, 0.95), 0.04), rng)
    return replace(scene, light=(0.0, 0.0, rng.uniform(0.2, 0.4)), tint=(1.0, 0.9, rng.uniform(0.65, 0.8)))


def _same_brightness(rng: np.random.Generator) -> Scene:
    """Colour on colour: a garment that a black-and-white photograph would hardly show."""
    ground = [(0.85, 0.55, 0.55), (0.5, 0.7, 0.5), (0.55, 0.62, 0.9)][rng.integers(3)]
    fabric = [(0.3, 0.8, 0.55), (0.95, 0.4, 0.6), (0.75, 0.58, 0.2)][rng.integers(3)]
    return replace(_plain(rng), ground=ground, undyed=ground, fabric=fabric)


def _cut_by_the_edge(rng: np.random.Generator) -> Scene:
    scene = _pastel(rng)
    ((x, y, side, _),) = scene.garments
    edge = (0.46 - rng.uniform(0, 0.08)) * side
    if rng.random() < 0.5:
        x = edge
    else:
        y = edge
    return replace(scene, garments=((x, y, side, 0.0),))


def _patterned(rng: np.random.Generator) -> Scene:
    return replace(_pastel(rng), texture=_dots)


def _two(rng: np.random.Generator) -> Scene:
    scene = _pastel(rng)
    width, height = (length / max(scene.width, scene.height) for length in (scene.width, scene.height))
    across = width >= height
    side = min(max(width, height) / 2, min(width, height)) * 0.85
    places = [0.26, 0.74]
    centres = [(width * place, height / 2) if across else (width / 2, height * place) for place in places]
    return replace(scene, garments=tuple((x, y, side, 0.0) for x, y in centres))


def _empty(rng: np.random.Generator) -> Scene:
    drawn = list({**KINDS, **KEPT_ASIDE}.values())
    return replace(drawn[rng.integers(len(drawn))](rng), garments=(), shadow=0.0)


def _noise_alone(rng: np.random.Generator) -> Scene:
    grey = rng.uniform(0.3, 0.7)
    return replace(_plain(rng), garments=(), ground=(grey,) * 3, noise=rng.uniform(20, 60))


def _grain(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    rings = rng.uniform(12, 25)
    waves = np.sin(2 * math.pi * (rings * y + 0.6 * np.sin(2 * math.pi * (x * rng.uniform(0.7, 1.5) + rng.random()))))
    grain: Floats = 1 + np.float32(rng.uniform(0.03, 0.07)) * waves
    return grain


def _weave(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    threads = 2 * math.pi * rng.uniform(30, 60)
    woven: Floats = np.sin(threads * (x + y)) * np.sin(threads * (x - y))
    return 1 + np.float32(rng.uniform(0.03, 0.08)) * woven


def _dots(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    dots = 2 * math.pi * rng.uniform(5, 10)
    within: Floats = (np.sin(dots * x) * np.sin(dots * y) > 0.5).astype(np.float32)
    return 1 - np.float32(rng.uniform(0.2, 0.5)) * within


KINDS: Final[dict[str, Callable[[np.random.Generator], Scene]]] = {
    "product photograph on white": _plain,
    "pastel table": _pastel,
    "wall in falling light": _wall,
    "dim on a dark ground": _dim,
    "tinted light": _tinted,
    "soft shadow": _shadowed,
    "sensor noise": _noisy,
    "off centre, wide margins": _off_centre,
    "rotated by 1-5°": _rotated,
    "JPEG quality 12-29": _compressed,
    "mixed": _mixed,
}
"""What `fashion_mnist.preparation` was made with."""

KEPT_ASIDE: Final[dict[str, Callable[[np.random.Generator], Scene]]] = {
    "wood grain": _wood,
    "light falling both ways": _two_gradients,
    "woven cloth": _textile,
    "vignetting and tint": _vignetted,
    "colours of one brightness": _same_brightness,
}
"""Looked at only once everything was chosen."""

CASES: Final[dict[str, Callable[[np.random.Generator], Scene]]] = {
    "cut by the frame": _cut_by_the_edge,
    "dotted ground": _patterned,
    "two garments": _two,
    "none: empty ground": _empty,
    "none: noise": _noise_alone,
}
"""What preparation is not made for."""


def _dye(scene: Scene, garment: tuple[float, float, float, float], image: Pixels) -> Floats:
    """An image in its place in a photograph, float32 [height, width] from 0 to 1."""
    x, y, side, angle = garment
    pixel = max(scene.width, scene.height) * side / max(image.shape)
    cosine, sine = math.cos(math.radians(angle)) / pixel, math.sin(math.radians(angle)) / pixel
    centre_x, centre_y = x * max(scene.width, scene.height), y * max(scene.width, scene.height)
    # The garment's own border would be repeated beyond it: a black frame ends it.
    framed = Image.fromarray(np.pad(image, 2))
    return np.asarray(
        framed.transform(
            (scene.width, scene.height),
            Image.Transform.AFFINE,
            (
                cosine,
                sine,
                framed.width / 2 - cosine * centre_x - sine * centre_y,
                -sine,
                cosine,
                framed.height / 2 + sine * centre_x - cosine * centre_y,
            ),
            Image.Resampling.BICUBIC,
        ),
        np.float32,
    ) / np.float32(255)


def _render(scene: Scene, images: Sequence[Pixels], rng: np.random.Generator) -> bytes:
    longer = np.float32(max(scene.width, scene.height))
    y, x = np.ogrid[: scene.height, : scene.width]
    x, y = x.astype(np.float32) / longer, y.astype(np.float32) / longer
    dyes = [_dye(scene, garment, image) for garment, image in zip(scene.garments, images, strict=False)]
    # Six levels of dye are enough to hide the ground: the data set's garments end as sharply.
    covers = [np.minimum(dye * np.float32(255 / 6), 1) for dye in dyes]
    brightness = np.ones((scene.height, scene.width), np.float32)
    if scene.texture:
        brightness *= scene.texture(x, y, rng)
    if scene.shadow:
        brightness *= 1 - np.float32(scene.shadow) * _shadow(dyes[0], rng)
    light = _light(scene, x - x.mean(), y - y.mean())
    picture = np.empty((scene.height, scene.width, 3), np.uint8)
    colours = zip(scene.ground, scene.undyed, scene.fabric, scene.tint, strict=True)
    for channel, (ground, undyed, fabric, tint) in enumerate(colours):
        plane = brightness * np.float32(ground)
        for dye, cover in zip(dyes, covers, strict=True):
            plane += cover * (np.float32(undyed) + dye * np.float32(fabric - undyed) - plane)
        plane *= light * np.float32(255 * tint)
        if scene.noise:
            plane += np.float32(scene.noise) * rng.standard_normal(plane.shape, np.float32)
        picture[:, :, channel] = _levels(plane)
    return _jpeg(picture, scene.quality)


def _light(scene: Scene, x: Floats, y: Floats) -> Floats:
    """How brightly each point is lit, about 1, at distances from the middle."""
    across, down, corners = map(np.float32, scene.light)
    light: Floats = np.maximum(1 - across * x - down * y - 2 * corners * (x**2 + y**2), 0)
    return light


def _shadow(dye: Floats, rng: np.random.Generator) -> Floats:
    """The garment's outline, moved to one side and blurred, from 0 to 1."""
    height, width = dye.shape
    # It is blurred at an eighth of the size: it is soft anyway.
    small = Image.fromarray(np.uint8(255 * (dye > 0.02))).resize((max(width // 8, 1), max(height // 8, 1)))
    longer = max(small.size)
    shift = [rng.uniform(0.02, 0.06) * longer * sign for sign in rng.choice([-1, 1], 2)]
    moved = small.transform(small.size, Image.Transform.AFFINE, (1, 0, shift[0], 0, 1, shift[1]))
    soft = moved.filter(ImageFilter.GaussianBlur(rng.uniform(0.02, 0.04) * longer))
    return np.asarray(soft.resize((width, height), Image.Resampling.BILINEAR), np.float32) / np.float32(255)


def _levels(values: Floats) -> Pixels:
    levels: Pixels = np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
    return levels


def _jpeg(picture: Pixels, quality: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=quality)
    return content.getvalue()
