"""Standard output and standard error that never end a process: what cannot be written is dropped."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

NO_READER = {errno.EPIPE, errno.EIO}  # the other end of a pipe, or the terminal, is closed


class _Output(io.FileIO):
    """File descriptor that is redirected to the null device at its first failure, for child processes as well.

    Attributes:
        error: that failure.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write `data`, or a part of it; return the number of bytes that are done with."""
        num_bytes: int | None = None
        try:
            num_bytes = super().write(data)
        except OSError as error:
            self.error = error
            _discard(self.fileno())
        return len(data) if num_bytes is None else num_bytes  # None also if a non-blocking terminal is busy


def tolerate_broken_output() -> None:
    """Let this process continue if its output breaks: a closed pipe or terminal, a full disk.

    Streams that were redirected within Python are left alone.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        if stream is None:  # closed from the start; the next file would get its descriptor, and children's output
            if not _is_open(descriptor):
                _discard(descriptor)
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115, open until the process ends
            continue
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        buffer = io.BufferedWriter(_Output(descriptor))
        line_buffering = stream.line_buffering or stream.write_through
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=line_buffering))


def require_written() -> None:
    """For commands whose result is what they print: raise the error that cost standard output.

    A reader that closed its end of a pipe, as `head` does, is no error.

    Raises:
        OSError: such as a full disk.
    """
    sys.stdout.flush()
    output = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(output, _Output) and output.error is not None and output.error.errno not in NO_READER:
        raise output.error


def _discard(descriptor: int) -> None:
    """Redirect `descriptor` to the null device."""
    with contextlib.suppress(OSError):  # no descriptor left, say: every write fails then, and is dropped
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.set_inheritable(descriptor, True)  # if they are the same
        if null != descriptor:
            os.close(null)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
