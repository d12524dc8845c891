"""The errors that this project raises: one hierarchy, one shape.

FashionMNISTError                 500 internal_error
├── InputError                    400 bad_request            invalid requests
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
├── Overloaded                    429 overloaded             retry later
├── Unavailable                   503 unavailable            retry later
├── UsageError                    500 usage_error            invalid arguments or settings
├── DatasetError                  500 dataset_error
├── ModelError                    500 model_error            a model that is missing, altered or wrong
├── DeviceUnavailable             500 device_unavailable
├── TrainingError                 500 training_error
├── ExportError                   500 export_error
├── ServingError                  500 serving_error          a server of ours did not start, answer or stop
└── VersionError                  409 version_error          a version that cannot be loaded, used or unloaded

Each class has a code (stable, for programs) and an HTTP status; each message says what to change.
"""

from typing import ClassVar


class FashionMNISTError(Exception):
    """The base class. `code` never changes after its release; `message` says what to do."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def body(self, index: int | None = None) -> dict[str, object]:
        """The error as in every answer: `{"code", "message", "index"?}`.

        `index` is the image's index in its request, if the error concerns a single image.
        """
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if index is not None:
            error["index"] = index
        return error


class InputError(FashionMNISTError):
    """The request is invalid, and will fail again."""

    code = "bad_request"
    status = 400


class EmptyBody(InputError):
    """The body is empty."""

    code = "empty_body"


class BadParameter(InputError):
    """A query parameter is unknown or has an invalid value."""

    code = "bad_parameter"


class BadJSON(InputError):
    """The body is not JSON although it should be, or is JSON of an unknown form."""

    code = "bad_json"


class BadPixels(InputError):
    """Pixel values that are not integers from 0 to 255, or lists of the wrong lengths."""

    code = "bad_pixels"


class BadArray(InputError):
    """A .npy or IDX array of the wrong dtype or rank, truncated, or pickled."""

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
    """A tensor of the wrong name, type, shape or length, or an unknown output."""

    code = "bad_tensor"


class SuspectBody(InputError):
    """The server crashed twice while it decoded this body, which is refused for ten minutes."""

    code = "suspect_body"
    status = 422


class BodyTooLarge(InputError):
    """The body is longer than the limit, compressed or decompressed."""

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
    """The format of the body is not supported."""

    code = "unsupported_media_type"
    status = 415


class Unauthorized(InputError):
    """The request carries no key, or one that is unknown, revoked or expired."""

    code = "unauthorized"
    status = 401


class Forbidden(InputError):
    """The key is valid but lacks the scope."""

    code = "forbidden"
    status = 403


class NotFound(InputError):
    """The path, model or version is unknown."""

    code = "not_found"
    status = 404


class MethodNotAllowed(InputError):
    """The path does not support this method."""

    code = "method_not_allowed"
    status = 405


class RequestTimeout(InputError):
    """The request did not arrive in time."""

    code = "request_timeout"
    status = 408


class HeadTooLarge(InputError):
    """The request line and headers are longer than the limit."""

    code = "head_too_large"
    status = 431


class Overloaded(FashionMNISTError):
    """Too much work is queued; the same request may succeed a moment later."""

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
    """A file of the data set is missing, truncated, swapped or wrong; the message names it."""

    code = "dataset_error"


class ModelError(FashionMNISTError):
    """A model file is missing, does not match its checksum, or is of another model."""

    code = "model_error"


class DeviceUnavailable(FashionMNISTError):
    """The requested device is unavailable; the message gives the reason."""

    code = "device_unavailable"


class TrainingError(FashionMNISTError):
    """Training cannot start, continue or be resumed."""

    code = "training_error"


class ExportError(FashionMNISTError):
    """An exported model is invalid or differs from the network; nothing was replaced."""

    code = "export_error"


class ServingError(FashionMNISTError):
    """A server that this project runs did not start, become ready, answer or stop; the message says why."""

    code = "serving_error"


class VersionError(FashionMNISTError):
    """A version of the model cannot be loaded, used or unloaded; nothing has changed, and the message says why."""

    code = "version_error"
    status = 409
