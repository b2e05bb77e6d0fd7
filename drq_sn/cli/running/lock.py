"""Exclusive lock of a run directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import socket
from pathlib import Path

from filelock import SoftFileLock, Timeout

from drq_sn.validation import InvalidInput

LOCK = ".lock"
MARKER = ".lock.soft"
NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
CONTENDED = {errno.EAGAIN, errno.EACCES}  # the second on SMB
MARKER_SECONDS = 3.0  # in which filelock removes the marker of a dead process


class RunDirectoryLost(Exception):
    """Another process took over the run directory, or it was moved away."""


class RunLock:
    """The lock of a run directory, held until `close` or until this process ends, however it ends.

    `flock` on the file `.lock` also keeps out other machines on network file systems. `flock` on the directory itself
    keeps out other processes of this machine when somebody deletes that file. Where the file system has no `flock`, the
    existence of `.lock.soft` takes its place, by `filelock.SoftFileLock`: it removes what a dead process of this
    machine left behind. filelock does not lock directories, and its own fallback is for ENOSYS only, so the calls of
    `flock` are made here. `.lock` names the holder.

    Args:
        path: an existing directory.

    Raises:
        InvalidInput: if another process has it, or the lock's file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record = f"{os.getpid()}\n{socket.gethostname()}\n{secrets.token_hex(8)}\n"
        self._directory_lock, self._file_lock = contextlib.ExitStack(), contextlib.ExitStack()
        self._acquire()

    def close(self) -> None:
        """Let others have the directory."""
        self._file_lock.close()
        self._directory_lock.close()

    def verify(self) -> None:
        """Take the lock again if its file was deleted.

        Raises:
            RunDirectoryLost: if the directory is no longer that of this process.
        """
        try:
            holder = (self.path / LOCK).read_text(errors="replace")
        except FileNotFoundError:
            holder = ""
        except OSError:
            return  # a disk that fails for a moment
        if not holder:
            self._file_lock.close()
            with contextlib.suppress(InvalidInput):
                self._file_lock = self._lock_file()
                return
        if holder != self._record:
            owner = describe_owner(self.path / LOCK)
            raise RunDirectoryLost(f"{self.path} was moved or taken over by {owner}; this process stops")

    def move_to_backup(self) -> Path | None:
        """Move the directory, see the function of this name, and lock the new one; None if there is nothing to move.

        Raises:
            InvalidInput: if it cannot be moved, or another process took the new one.
        """
        backup = move_to_backup(self.path)
        if backup is not None:
            with self._directory_lock, self._file_lock:
                self._acquire()
            for name in (LOCK, MARKER):
                (backup / name).unlink(missing_ok=True)
        return backup

    def _acquire(self) -> None:
        with self._lock_directory() as directory_lock:
            self._file_lock = self._lock_file()
            self._directory_lock = directory_lock.pop_all()

    def _lock_directory(self) -> contextlib.ExitStack:
        with contextlib.ExitStack() as stack:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            with contextlib.suppress(OSError):  # some file systems lock files only
                self._flock(descriptor)
            return stack.pop_all()

    def _lock_file(self) -> contextlib.ExitStack:
        path = self.path / LOCK
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            except OSError as error:
                raise InvalidInput(f"{path} must be a writable file: {error.strerror}") from None
            stack.callback(os.close, descriptor)
            try:
                self._flock(descriptor)
            except OSError as error:
                if error.errno not in NO_FLOCK:
                    raise
                self._mark(stack)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, self._record.encode())
            if path.read_text(errors="replace") != self._record:
                raise InvalidInput(f"{self.path} was moved by another process just now; rerun the same command")
            return stack.pop_all()

    def _flock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in CONTENDED:
                raise
            owner = describe_owner(self.path / LOCK)
            raise InvalidInput(f"{self.path} is locked by {owner}; use another run_dir") from None

    def _mark(self, stack: contextlib.ExitStack) -> None:
        """Lock by the existence of a file."""
        marker = self.path / MARKER
        try:
            stack.enter_context(SoftFileLock(marker, timeout=MARKER_SECONDS))
        except Timeout:
            raise InvalidInput(
                f"{self.path} is locked by {describe_owner(marker)}; use another run_dir, or delete {marker} if that "
                "process has ended (the file system has no locks)"
            ) from None


def move_to_backup(path: Path) -> Path | None:
    """Move a directory to the first free of `{name}.1`, `{name}.2`, ... in one rename, and create it again, empty.

    Returns:
        The backup; None if there is nothing to move.

    Raises:
        InvalidInput: if it cannot be moved, as a mount point.
    """
    if not any(map(is_content, path.iterdir())):
        return None
    path = path.resolve() if path.is_symlink() else path
    number = next(n for n in itertools.count(1) if not os.path.lexists(path.with_name(f"{path.name}.{n}")))
    backup = path.with_name(f"{path.name}.{number}")
    try:
        path.rename(backup)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be moved to {backup} ({error.strerror}); move its files yourself, or use another directory"
        ) from None
    path.mkdir(exist_ok=True)  # another process may have been faster
    return backup


def is_content(path: Path) -> bool:
    """Whether a file in a run directory is anything other than a lock."""
    return not path.name.startswith(LOCK)


def describe_owner(path: Path) -> str:
    """The process that the file of a lock names."""
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    if len(lines) < 2:
        return "another process" if not lines else f"process {lines[0]}"
    return f"process {lines[0]} on {lines[1].split('?')[0]}"
