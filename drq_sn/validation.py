"""Validation of user options: `InvalidInput` with one line that names the option, its range and its value."""

from __future__ import annotations

import difflib
import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

NUM_SUGGESTIONS = 3
LONG_LIST = 12
LARGEST_INTEGER = 10**12
"""Of every integer option without a maximum of its own; more than any run can count, and far from overflows."""


class InvalidInput(ValueError):
    """A value from the user that cannot be used; its message is one line meant for them."""


def _check(ok: bool, name: str, value: Any, valid: str) -> None:
    if not ok:
        raise InvalidInput(f"{name} must be {valid}, got {value!r}")


def boolean(name: str, value: Any) -> bool:
    """Return `value` if it is true or false, else raise `InvalidInput`."""
    _check(isinstance(value, bool), name, value, "true or false")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Return `value` as text if it is a string or a number, else raise `InvalidInput`."""
    _check(isinstance(value, (str, int, float)), name, value, "text")
    return str(value)


def path(name: str, value: Any) -> Path:
    """Return `value` as a path if it is text that can name a file or directory, else raise `InvalidInput`."""
    text(name, value)
    _check(value != "", name, value, "a path")
    try:
        Path(str(value)).exists()
    except OSError as error:  # a name that is too long, a directory that may not be searched
        raise InvalidInput(f"{name} must be a path, got {value}: {error.strerror}") from None
    return Path(str(value))


def integer(name: str, value: Any, minimum: int = 1, maximum: int = LARGEST_INTEGER) -> int:
    """Return `value` if it is an integer with `minimum` <= value <= `maximum`, else raise `InvalidInput`."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    is_large = is_integer and value > maximum
    limit = f" and <= {maximum}" if is_large or maximum != LARGEST_INTEGER else ""
    _check(is_integer and value >= minimum and not is_large, name, value, f"an integer >= {minimum}{limit}")
    return int(value)


def real(name: str, value: Any, low: float, high: float = float("inf"), *, open_low: bool = False) -> float:
    """Return `value` as a float if low <= value <= high (low < value if `open_low`), else raise `InvalidInput`.

    Infinity is not a valid value.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
    ok = is_number and (low < value if open_low else low <= value) and value <= high
    bounds = [f"{'>' if open_low else '>='} {low:g}"] * (low > -math.inf) + [f"<= {high:g}"] * (high < math.inf)
    _check(ok, name, value, f"a number {' and '.join(bounds)}".strip())
    return float(value)


def multiple(name: str, value: Any, divisor: int, meaning: str, minimum: int = 0) -> int:
    """Return `value` if it is a multiple of `divisor` and >= `minimum`, else raise `InvalidInput`.

    `meaning` says in the message what the divisor is.
    """
    integer(name, value, minimum)
    _check(value % divisor == 0, name, value, f"a multiple of {divisor} ({meaning})")
    return int(value)


def choice(name: str, value: Any, valid: Iterable[str]) -> str:
    """Return `value` if it is one of `valid`, else raise `InvalidInput` with the nearest of them."""
    names = sorted(valid)
    if value in names:
        return str(value)
    near = difflib.get_close_matches(str(value), names, n=NUM_SUGGESTIONS, cutoff=0.5)
    if near:
        raise InvalidInput(f"unknown {name} {value!r}; did you mean {' or '.join(map(repr, near))}?")
    if len(names) > LONG_LIST:
        raise InvalidInput(f"unknown {name} {value!r}")
    raise InvalidInput(f"{name} must be one of {', '.join(names)}, got {value!r}")


def first_line(error: object) -> str:
    """First line of an error's message; its class if there is none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def describe(error: Exception) -> str:
    """Class of an error and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}".removesuffix(": ")


def extra_installed(extra: str, packages: Iterable[str]) -> None:
    """Raise `InvalidInput` unless all `packages` of the optional dependencies `extra` can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidInput(f"{' and '.join(missing)} not installed; run pip install 'drq_sn[{extra}]'")


def fits_in_memory(name: str, value: Any, num_bytes: int, available_bytes: int) -> None:
    """Raise `InvalidInput` unless `num_bytes`, which setting `name` to `value` costs, are available."""
    if num_bytes > available_bytes:
        largest = int(value * available_bytes / num_bytes)
        raise InvalidInput(
            f"{name} must be at most about {largest}, got {value}: "
            f"it needs {num_bytes / 1e9:.1f} GB of memory and {available_bytes / 1e9:.1f} GB are free"
        )


def action(value: Any, spec: Any) -> np.ndarray:
    """Return `value` as an array if it is an action of `spec`, a dm_env `BoundedArray`, else raise `InvalidInput`."""
    array, kinds = np.asarray(value), "iuf" if spec.dtype.kind == "f" else "iu"
    if array.shape != spec.shape or array.dtype.kind not in kinds:
        problem = f"{array.dtype} of shape {array.shape}"
    elif not ((array >= spec.minimum) & (array <= spec.maximum)).all():  # NaN is not
        problem = str(array.tolist())
    else:
        return array
    bounds = f"[{np.min(spec.minimum):g}, {np.max(spec.maximum):g}]"
    numbers = "numbers" if spec.dtype.kind == "f" else "integers"
    raise InvalidInput(f"action must be {numbers} of shape {spec.shape} in {bounds}, got {problem}")
