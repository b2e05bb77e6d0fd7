"""One worker process per row; the rows take turns, so that drift of the machine affects all of them alike."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from drq_sn.validation import first_line


@dataclass(frozen=True, eq=False)
class Row:
    """A row of a table."""

    columns: Mapping[str, Any]  # what it is called by
    command: Sequence[str]  # its worker; see `serve`
    code: Path  # directory that the worker imports `drq_sn` from
    prepare: Mapping[str, Any] = field(default_factory=dict)  # arguments of the worker's `prepare`

    @property
    def title(self) -> str:
        """The columns in one line."""
        return " ".join(map(str, self.columns.values()))


class WorkerError(RuntimeError):
    """A worker raised an error or ended; the message is one line."""


class Worker:
    """A process that executes method calls: a line of JSON on its stdin for each, its result on stdout.

    Args:
        command: the process; see `serve`.
        code: directory that it imports `drq_sn` from, and runs in.
    """

    def __init__(self, command: Sequence[str], code: Path) -> None:
        path = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=code,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C reaches only the parent, which then closes its workers
        )

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Return what `method` of the served object returns.

        Raises:
            WorkerError: if it raised RuntimeError or ValueError, or the process ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([method, arguments]), file=stdin, flush=True)
        line = stdout.readline()
        if not line:
            raise WorkerError(f"its process ended with code {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return dict(reply["result"])

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError), self._process:  # closes the pipes and waits
            self._process.kill()


def serve(build: Callable[[], object], after_call: Callable[[], object] = gc.collect) -> None:
    """Be a worker: execute method calls from stdin until it closes.

    Args:
        build: builds the object whose methods are called; executed at the first call.
        after_call: executed after each call, to free what an idle worker does not need.
    """
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not mix with replies
    served = None
    for line in sys.stdin:
        method, arguments = json.loads(line)
        try:
            served = served or build()
            reply = {"result": getattr(served, method)(**arguments)}
        except (RuntimeError, ValueError) as error:  # such as out of memory, or no compiler
            reply = {"error": first_line(error)}
        after_call()
        print(json.dumps(reply), file=replies, flush=True)


def take_turns(
    rows: Sequence[Row], num_rounds: int, sample: Mapping[str, Any]
) -> Iterator[tuple[Row, int, dict[str, Any]]]:
    """Start and prepare each row, then sample each row in every round; shows a progress bar.

    Workers are idle, not ended, while other rows are measured.

    Args:
        rows: what is measured.
        num_rounds: samples of each row.
        sample: arguments of each worker's `sample`.

    Yields:
        Row, 0, result of `prepare`; then row, number of the round, result of `sample`. A row that fails
        yields {"error": message} instead, and nothing more.
    """
    with Progress(console=Console(stderr=True), transient=True) as progress, contextlib.ExitStack() as stack:
        task = progress.add_task("", total=len(rows) * (num_rounds + 1))
        workers: dict[Row, Worker] = {}
        for number in range(num_rounds + 1):
            for row in list(workers if number else rows):
                progress.update(task, description=row.title)
                try:
                    if number == 0:
                        workers[row] = Worker(row.command, row.code)
                        stack.callback(workers[row].close)
                        result = workers[row].call("prepare", **row.prepare)
                    else:
                        result = workers[row].call("sample", **sample)
                except WorkerError as error:
                    workers.pop(row).close()
                    result = {"error": str(error)}
                yield row, number, result
                progress.advance(task)
