"""The base of every error that this library raises on purpose, and what a command says of an error.

Each room defines its own errors beside the code that raises them; all of them derive from
:class:`RefamError`, so that a caller can catch whatever we say about bad input in one place.
"""

from __future__ import annotations

import errno

__all__ = ["RefamError"]

REFUSED = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE,
    errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
)  # fmt: skip
"""What the system says when it will not write or open: no room, no permission, a broken disk, too many open files."""


class RefamError(Exception):
    """Something was wrong with what the library was given; the sentence says what, and what to do.

    >>> issubclass(RefamError, Exception)
    True
    """


def told(error: BaseException) -> str | None:
    """An error in a sentence, for somebody who runs a command.

    Args:
        error: that ended it.

    Returns:
        The sentence; None for what is nobody's fault but the code's, and needs its traceback.

    >>> told(OSError(28, "No space left on device", "masks/a.png"))
    "'masks/a.png' cannot be written or opened: No space left on device."
    >>> told(ZeroDivisionError("division by zero")) is None
    True
    """
    if isinstance(error, RefamError):
        return str(error)
    if _is_memory(error):
        return "There is not enough memory. Ask for less at once: a smaller picture, batch or selection of blocks."
    if isinstance(error, OSError) and error.errno in REFUSED:
        what = repr(str(error.filename)) if error.filename else "A file"
        return f"{what} cannot be written or opened: {error.strerror}."
    return None


def _is_memory(error: BaseException) -> bool:
    """Whether memory was short: PyTorch says so with a RuntimeError, the system also with an OSError."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(
        words in said
        for words in (
            "can't allocate memory",
            "out of memory",
            "bad_alloc",
            "can't start new thread",
            "could not create a primitive",
        )
    )
