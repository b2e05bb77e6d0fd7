"""Calling a function in a process of its own, so that nothing leaks from one measurement to the next."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class ProcessDied(RuntimeError):
    """The process ended without an answer."""


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)`, computed by a new interpreter that ends with the call.

    Raises:
        ProcessDied: if it ends without an answer, such as for want of memory.
        Exception: whatever `function` raised.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        raised, value = receiver.recv()
    except EOFError:
        process.join()
        raise ProcessDied(f"its process ended with code {process.exitcode}") from None
    finally:
        process.terminate()
        process.join()
    if raised:
        raise value
    return value


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees Ctrl-C and ends us
    try:
        sender.send((False, function(*arguments)))
    except Exception as error:
        sender.send((True, error))
