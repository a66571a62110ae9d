"""What the server takes for a kernel's process: it asks the mother process for one, and stands in for it.

A kernel is started as any other, by a command; this is the command. It passes signals on, ends when the kernel ends,
and when it is ended itself, the mother process ends the kernel. It runs as a script, without this package, so that it
starts in a few milliseconds and stays small.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGINT, signal.SIGTERM)


def main(mother: str, connection_file: str) -> int:
    """Have a kernel started, and wait for its end.

    Args:
        mother: path of the socket that the mother process listens on.
        connection_file: of the kernel, for both of its sides.

    Returns:
        The kernel's exit status.
    """
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(mother)
        line.sendall(os.fsencode(connection_file) + b"\n")
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: line.sendall(bytes([number])))
        status = line.recv(1)
    return status[0] if status else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
