"""The base of every error that this library raises on purpose.

Each room defines its own errors beside the code that raises them; all of them derive from
:class:`RefamError`, so that a caller can catch whatever we say about bad input in one place.
"""


class RefamError(Exception):
    """Something was wrong with what the library was given; the sentence says what, and what to do.

    >>> issubclass(RefamError, Exception)
    True
    """
