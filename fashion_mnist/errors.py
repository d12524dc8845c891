"""Every error this project raises on purpose: one tree, one shape.

FashionMNISTError                 500 internal_error
├── InputError                    400 bad_request            what a client sent
│   ├── EmptyBody                 400 empty_body
│   ├── BadParameter              400 bad_parameter
│   ├── BadJSON                   400 bad_json
│   ├── BadPixels                 400 bad_pixels
│   ├── BadArray                  400 bad_array
│   ├── BadLength                 400 bad_length
│   ├── CorruptImage              400 corrupt_image
│   ├── BadMultipart              400 bad_multipart
│   ├── BadTensor                 400 bad_tensor
│   ├── SuspectBody               422 suspect_body
│   ├── BodyTooLarge              413 body_too_large
│   ├── TooManyPixels             413 too_many_pixels
│   ├── TooManyImages             413 too_many_images
│   ├── UnsupportedMediaType      415 unsupported_media_type
│   ├── Unauthorized              401 unauthorized
│   ├── Forbidden                 403 forbidden
│   ├── NotFound                  404 not_found
│   ├── MethodNotAllowed          405 method_not_allowed
│   ├── RequestTimeout            408 request_timeout
│   └── HeadTooLarge              431 head_too_large
├── Overloaded                    429 overloaded             try again later
├── Unavailable                   503 unavailable            try again later
├── UsageError                    500 usage_error            what a person typed or set
├── DatasetError                  500 dataset_error
├── ModelError                    500 model_error            a model that is missing, altered or wrong
├── DeviceUnavailable             500 device_unavailable
├── TrainingError                 500 training_error
├── ExportError                   500 export_error
├── ServingError                  500 serving_error          a server of ours did not start, answer or stop
└── VersionError                  409 version_error          a version that cannot be loaded, used or unloaded

A class owns its code (stable, for programs), its HTTP status and, in its message, what the person can change.
"""

from typing import ClassVar


class FashionMNISTError(Exception):
    """The root. `code` never changes once released; `message` says what to do."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def body(self, index: int | None = None) -> dict[str, object]:
        """The error as every answer carries it: `{"code", "message", "index"?}`.

        `index` is the image's place in its request, where the error is one image's alone.
        """
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if index is not None:
            error["index"] = index
        return error


class InputError(FashionMNISTError):
    """The request is at fault, and the same request will fail again."""

    code = "bad_request"
    status = 400


class EmptyBody(InputError):
    """Nothing was sent."""

    code = "empty_body"


class BadParameter(InputError):
    """A query parameter is unknown or has no such value."""

    code = "bad_parameter"


class BadJSON(InputError):
    """The body claims to be JSON and is not, or is JSON of an unknown form."""

    code = "bad_json"


class BadPixels(InputError):
    """Pixel values that are no integers from 0 to 255, or not 28 rows of 28."""

    code = "bad_pixels"


class BadArray(InputError):
    """A .npy or IDX array of another dtype or rank, cut short, or pickled."""

    code = "bad_array"


class BadLength(InputError):
    """Raw bytes that are not a whole number of images."""

    code = "bad_length"


class CorruptImage(InputError):
    """An image file that is truncated, altered or unreadable."""

    code = "corrupt_image"


class BadMultipart(InputError):
    """A multipart body without an image in it, or with a field that cannot be read."""

    code = "bad_multipart"


class BadTensor(InputError):
    """A tensor of another name, type, shape or length, or an output that there is not."""

    code = "bad_tensor"


class SuspectBody(InputError):
    """The server crashed twice while it decoded this body, which is refused for ten minutes."""

    code = "suspect_body"
    status = 422


class BodyTooLarge(InputError):
    """The body, or what it unpacks to, is longer than the limit."""

    code = "body_too_large"
    status = 413


class TooManyPixels(InputError):
    """An image whose header declares more pixels than the limit."""

    code = "too_many_pixels"
    status = 413


class TooManyImages(InputError):
    """More images in one request than the limit."""

    code = "too_many_images"
    status = 413


class UnsupportedMediaType(InputError):
    """The bytes are none of the kinds that are understood."""

    code = "unsupported_media_type"
    status = 415


class Unauthorized(InputError):
    """The request carries no key, or one that is unknown, revoked or expired."""

    code = "unauthorized"
    status = 401


class Forbidden(InputError):
    """The key is good, and not for this."""

    code = "forbidden"
    status = 403


class NotFound(InputError):
    """There is nothing at this path."""

    code = "not_found"
    status = 404


class MethodNotAllowed(InputError):
    """The path is right, and takes another method."""

    code = "method_not_allowed"
    status = 405


class RequestTimeout(InputError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408


class HeadTooLarge(InputError):
    """The request's line and headers are longer than the limit."""

    code = "head_too_large"
    status = 431


class Overloaded(FashionMNISTError):
    """More work waits than the service takes on; the same request may succeed a moment later."""

    code = "overloaded"
    status = 429


class Unavailable(FashionMNISTError):
    """The service cannot answer now; the same request may succeed later."""

    code = "unavailable"
    status = 503


class UsageError(FashionMNISTError):
    """A command's argument or a setting that cannot be used."""

    code = "usage_error"


class DatasetError(FashionMNISTError):
    """A data set file that is missing, truncated, swapped or wrong; the message names it."""

    code = "dataset_error"


class ModelError(FashionMNISTError):
    """A model file that is missing, does not match its checksum, or is another model."""

    code = "model_error"


class DeviceUnavailable(FashionMNISTError):
    """A device was asked for by name and is not there; the message gives the reason."""

    code = "device_unavailable"


class TrainingError(FashionMNISTError):
    """Training cannot start, go on or be resumed."""

    code = "training_error"


class ExportError(FashionMNISTError):
    """An exported model is invalid or does not agree with the network; nothing was replaced."""

    code = "export_error"


class ServingError(FashionMNISTError):
    """A server of ours did not start, become ready, answer or stop; the message says why."""

    code = "serving_error"


class VersionError(FashionMNISTError):
    """A version of the model that cannot be loaded, used or unloaded; all is as it was, and the message says why."""

    code = "version_error"
    status = 409
