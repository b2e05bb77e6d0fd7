"""How commands end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from drq_sn.checks import InvalidInput

INVALID_INPUT, INTERRUPTED = 2, 130


@contextlib.contextmanager
def exit_on_invalid_input() -> Iterator[None]:
    """Turn `InvalidInput` into its one line and exit code 2, Ctrl-C into exit code 130."""
    try:
        yield
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(INVALID_INPUT)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
