"""One corpus of request bodies, good and bad, for the decoder, the handler and the served endpoint alike."""

import base64
import gzip
import io
import json
import pickle
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_mnist.encoding import encode_image

Pixels = NDArray[np.uint8]
OCTET_STREAM = "application/octet-stream"


@dataclass(frozen=True)
class Body:
    """A body, the content type it is sent with, and what becomes of it: a number of images, or an error's code."""

    name: str
    content: bytes
    content_type: str
    images: int = 0
    code: str = ""


def npy(array: NDArray[np.generic], *, allow_pickle: bool = False) -> bytes:
    """An array as .npy."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def idx(images: Pixels) -> bytes:
    """Images as IDX, the data set's own format."""
    return struct.pack(f">HBB{images.ndim}I", 0, 8, images.ndim, *images.shape) + images.tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_size(width: int, height: int) -> bytes:
    """A valid grey PNG of zeros, small however large it says to be."""
    row = bytes(width + 1)
    packer = zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return PNG_SIGNATURE + _header(width, height) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def _header(width: int, height: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


_SIGNATURES = {
    "gzip": b"\x1f\x8b\x08",
    "a jpeg": b"\xff\xd8\xff\xe0",
    "a bmp": b"BM\0\0\0\0\0\0\0\0",
    "npy": b"\x93NUMPY",
    "idx": b"\0\0\x08\x03",
    "json": b"[[",
}


def _beginning(image: Pixels, start: bytes) -> Pixels:
    """An image whose first pixels are these bytes."""
    return np.frombuffer(start + image.tobytes()[len(start) :], np.uint8).reshape(image.shape)


def disguised_bodies(image: Pixels) -> list[Body]:
    """Images whose pixels look like the beginning of a file: none may be taken for one, wherever they stand bare."""
    return [
        Body(f"png whose pixels begin like {name}", encode_image(_beginning(image, start)), "image/png", 1)
        for name, start in _SIGNATURES.items()
    ]


def good_bodies(images: Pixels) -> list[Body]:
    """Every kind of body, holding the first of `images` or several, without loss."""
    images = images.reshape(-1, *images.shape[-2:])
    one, some = images[0], images[:3]
    png = encode_image(one)
    text = base64.b64encode(png).decode()
    return [
        Body("png", png, "image/png", 1),
        Body("png without a type", png, "", 1),
        Body("png under a wrong type", png, "text/plain", 1),
        Body("bmp", encode_image(one, "BMP"), "image/bmp", 1),
        Body("webp, lossless", encode_image(one, "WEBP", lossless=True), "image/webp", 1),
        Body("raw", one.tobytes(), OCTET_STREAM, 1),
        Body("raw, several", some.tobytes(), OCTET_STREAM, 3),
        Body("raw without a type", one.tobytes(), "", 1),
        Body("npy [28, 28]", npy(one), OCTET_STREAM, 1),
        Body("npy [n, 28, 28]", npy(some), OCTET_STREAM, 3),
        Body("npy [n, 1, 28, 28]", npy(some[:, None]), OCTET_STREAM, 3),
        Body("npy [n, 784]", npy(some.reshape(3, -1)), OCTET_STREAM, 3),
        Body("npy in Fortran's order", npy(np.asfortranarray(some)), OCTET_STREAM, 3),
        Body("idx", idx(some), OCTET_STREAM, 3),
        Body("idx, gzipped", gzip.compress(idx(some)), "application/gzip", 3),
        Body("json rows", json.dumps(one.tolist()).encode(), "application/json", 1),
        Body("json, several", json.dumps(some.tolist()).encode(), "application/json; charset=utf-8", 3),
        Body("json, flat", json.dumps(some.reshape(3, -1).tolist()).encode(), "application/json", 3),
        Body("json without a type", json.dumps(one.tolist()).encode(), "", 1),
        Body("base64", json.dumps(text).encode(), "application/json", 1),
        Body("base64, several", json.dumps([text, text]).encode(), "application/json", 2),
        Body("data url", json.dumps([f"data:image/png;base64,{text}"]).encode(), "application/json", 1),
        Body("instances", json.dumps({"instances": some.tolist()}).encode(), "application/json", 3),
        Body("instances, base64", json.dumps({"instances": [{"b64": text}]}).encode(), "application/json", 1),
        Body("instances, named", json.dumps({"instances": [{"image": one.tolist()}]}).encode(), "application/json", 1),
    ]


def bad_bodies(image: Pixels) -> list[Body]:
    """Everything that a client gets wrong or tries, with the code that must come back."""
    image = image.reshape(image.shape[-2:])
    png, jpeg, whole = encode_image(image), encode_image(image, "JPEG"), npy(image)
    pixels: Any = image.tolist()
    header = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)

    def pixel(value: object) -> bytes:
        return json.dumps([[value, *pixels[0][1:]], *pixels[1:]]).encode()

    return [
        Body("empty", b"", OCTET_STREAM, code="empty_body"),
        Body("truncated png", png[: len(png) // 2], "image/png", code="corrupt_image"),
        Body("png, signature only", png[:8], "image/png", code="corrupt_image"),
        Body("png without its end", png[:-12], "image/png", code="corrupt_image"),
        Body(
            "png with a wrong checksum", png[:50] + bytes([png[50] ^ 1]) + png[51:], "image/png", code="corrupt_image"
        ),
        Body(
            "png without pixels",
            PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IEND", b""),
            "image/png",
            code="corrupt_image",
        ),
        Body(
            "png whose pixels end early",
            PNG_SIGNATURE
            + png_chunk(b"IHDR", header)
            + png_chunk(b"IDAT", zlib.compress(bytes(300)))
            + png_chunk(b"IEND", b""),
            "image/png",
            code="corrupt_image",
        ),
        Body("png of 0 x 0", PNG_SIGNATURE + _header(0, 0), "image/png", code="corrupt_image"),
        Body("png of 30,000 x 30,000", png_of_size(30_000, 30_000), "image/png", code="too_many_pixels"),
        Body(
            "png of a million chunks",
            PNG_SIGNATURE + _header(28, 28) + png_chunk(b"teXt", b"") * 10**6,
            "image/png",
            code="corrupt_image",
        ),
        Body("jpeg of fill bytes", jpeg[:2] + b"\xff" * 10_000_000, "image/jpeg", code="corrupt_image"),
        Body("truncated jpeg", jpeg[: len(jpeg) // 2], "image/jpeg", code="corrupt_image"),
        Body("jpeg without its end", jpeg[:-2], "image/jpeg", code="corrupt_image"),
        Body("truncated webp", encode_image(image, "WEBP")[:40], "image/webp", code="corrupt_image"),
        Body("truncated bmp", encode_image(image, "BMP")[:500], "image/bmp", code="corrupt_image"),
        Body(
            "text file",
            b"these are not the pixels you are looking for\n" * 784,
            "text/plain",
            code="unsupported_media_type",
        ),
        Body("pdf", b"%PDF-1.7 " + bytes(1000), "application/pdf", code="unsupported_media_type"),
        Body("unknown type", image.tobytes(), "model/gltf-binary", code="unsupported_media_type"),
        Body("783 bytes", image.tobytes()[:-1], OCTET_STREAM, code="bad_length"),
        Body("gzip bomb", gzip.compress(bytes(100_000_000), 9), "application/gzip", code="body_too_large"),
        Body("truncated gzip", gzip.compress(idx(image[None]))[:-20], "application/gzip", code="corrupt_image"),
        Body(
            "gzip within gzip",
            gzip.compress(gzip.compress(idx(image[None]))),
            OCTET_STREAM,
            code="unsupported_media_type",
        ),
        Body("npy of float32", npy(image.astype(np.float32)), OCTET_STREAM, code="bad_array"),
        Body("npy of rank 1", npy(image.reshape(-1)), OCTET_STREAM, code="bad_array"),
        Body("npy of rank 5", npy(image[None, None, None]), OCTET_STREAM, code="bad_array"),
        Body("npy without images", npy(image[None][:0]), OCTET_STREAM, code="bad_array"),
        Body("truncated npy", whole[:-1], OCTET_STREAM, code="bad_array"),
        Body("npy, damaged header", whole[:10] + b"{" * 20 + whole[30:], OCTET_STREAM, code="bad_array"),
        Body("npy that promises a terabyte", whole.replace(b"(28, 28)", b"(1<<40,)"), OCTET_STREAM, code="bad_array"),
        Body("pickled npy", npy(np.array([{"a": 1}]), allow_pickle=True), OCTET_STREAM, code="bad_array"),
        Body("pickle", pickle.dumps({"a": 1}), "application/x-pickle", code="unsupported_media_type"),
        Body(
            "idx that promises more",
            struct.pack(">HBBIII", 0, 8, 3, 2**31, 28, 28) + bytes(784),
            OCTET_STREAM,
            code="bad_array",
        ),
        Body("idx of labels", struct.pack(">HBBI", 0, 8, 1, 5) + bytes(5), OCTET_STREAM, code="bad_array"),
        Body("truncated json", b"[[1, 2, 3", "application/json", code="bad_json"),
        Body("json, lists without end", b"[" + b"[]," * 300_000 + b"[]]", "application/json", code="bad_json"),
        Body("json, nested too deep", b"[" * 100_000, "application/json", code="bad_json"),
        Body("json number", b"7", "application/json", code="bad_json"),
        Body("json without images", b"[]", "application/json", code="bad_json"),
        Body("json object of another form", b'{"a": 1, "b": 2}', "application/json", code="bad_json"),
        Body("json, not base64", b'"@@@@"', "application/json", code="bad_json"),
        Body("pixel NaN", pixel(float("nan")), "application/json", code="bad_json"),
        Body("pixel 256", pixel(256), "application/json", code="bad_pixels"),
        Body("pixel -1", pixel(-1), "application/json", code="bad_pixels"),
        Body("pixel 0.5", pixel(0.5), "application/json", code="bad_pixels"),
        Body("pixel null", pixel(None), "application/json", code="bad_pixels"),
        Body("pixel true", pixel(True), "application/json", code="bad_pixels"),
        Body("a long text among pixels", pixel("x" * 10**6), "application/json", code="bad_pixels"),
        Body(
            "texts that NumPy would make a table of",
            json.dumps({"instances": [["x" * 10**6] + ["x"] * 100_000]}).encode(),
            "application/json",
            code="bad_pixels",
        ),
        Body("pixel of 30 digits", pixel(10**30), "application/json", code="bad_pixels"),
        Body("27 rows", json.dumps(pixels[1:]).encode(), "application/json", code="bad_pixels"),
        Body("a short row", json.dumps([pixels[0][1:], *pixels[1:]]).encode(), "application/json", code="bad_pixels"),
    ]
