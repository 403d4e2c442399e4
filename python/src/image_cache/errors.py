"""The exceptions: one class for each status of the library."""

from __future__ import annotations

from typing import Any, ClassVar, Optional


class ImageCacheError(OSError):
    """A call of the library failed.

    It is an OSError, because readers, tees and streams are files of Python's io module, whose users expect that class.
    """

    #: The number of the status, for example -3. 0: this class has none.
    status: int = 0
    #: The name of the status, for example "NOT_FOUND".
    name: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str, os_error: int = 0, status: Optional[int] = None) -> None:
        super().__init__(os_error or None, message)
        #: The operation, the path and the cause.
        self.message = message
        #: The errno of the system call that failed, or 0.
        self.os_error = os_error
        if status is not None:
            self.status = status

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __reduce__(self) -> Any:
        return type(self), (self.message, self.os_error, self.status)


class InvalidArgument(ImageCacheError, ValueError):
    """A value out of range, an unknown enumerator, a closed handle, or a call in the wrong state."""

    status = -1
    name = "INVALID_ARGUMENT"


class InvalidImageId(InvalidArgument):
    """The text is not a valid image id."""

    status = -2
    name = "INVALID_IMAGE_ID"


class NotFound(ImageCacheError):
    """The image is not cached."""

    status = -3
    name = "NOT_FOUND"


class AlreadyCached(ImageCacheError):
    """The image is cached already."""

    status = -4
    name = "ALREADY_CACHED"


class BeingCached(ImageCacheError):
    """A live writer has the image, in this process or another."""

    status = -5
    name = "BEING_CACHED"


class Mismatch(ImageCacheError):
    """The bytes are not those that were expected."""


class DigestMismatch(Mismatch):
    """The bytes do not have the expected digest."""

    status = -6
    name = "DIGEST_MISMATCH"


class SizeMismatch(Mismatch):
    """There are more or fewer bytes than expected."""

    status = -7
    name = "SIZE_MISMATCH"


class NoSpace(ImageCacheError):
    """The disk, a quota or the inodes are used up; or a limit, a floor or the pins leave no room."""

    status = -8
    name = "NO_SPACE"


class IoFailed(ImageCacheError):
    """Any other system error; os_error says which."""

    status = -9
    name = "IO"


class IndexFailed(ImageCacheError):
    """The driver's metadata could not be read or written."""

    status = -10
    name = "INDEX"


class Unsupported(ImageCacheError):
    """The file system or this version of the library does not support the request."""

    status = -11
    name = "UNSUPPORTED"


class Lost(ImageCacheError):
    """The incomplete file was cleaned away, or changed under its writer."""

    status = -12
    name = "LOST"


class SourceFailed(ImageCacheError):
    """A source, a fetch or a progress function failed or stopped the call. __cause__ is the exception that it raised."""

    status = -13
    name = "SOURCE"


class Forked(ImageCacheError):
    """In a forked child: the handle is another process's, or the cache was open at the fork."""

    status = -14
    name = "FORKED"


class InternalFailure(ImageCacheError):
    """A defect of the library; the message says where."""

    status = -15
    name = "INTERNAL"


class NoMemory(ImageCacheError):
    """An allocation failed. Nothing is lost: the call can be repeated."""

    status = -16
    name = "NO_MEMORY"


class TimedOut(ImageCacheError, TimeoutError):
    """Another process held the cache lock for 10 s, or the timeout of a stream or a wait has passed."""

    status = -17
    name = "TIMED_OUT"


class Refused(ImageCacheError):
    """The inspection refused the image; the message says why. __cause__ is the exception that the inspector raised."""

    status = -18
    name = "REFUSED"


class Pinned(ImageCacheError):
    """The image is pinned, and is not deleted; the message names the holders."""

    status = -19
    name = "PINNED"


def _classes(base: type[ImageCacheError]) -> dict[int, type[ImageCacheError]]:
    found = {base.status: base} if base.status else {}
    for each in base.__subclasses__():
        found.update(_classes(each))
    return found


#: The class of each status.
BY_STATUS = _classes(ImageCacheError)
