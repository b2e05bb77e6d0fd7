"""Moved to `tests.builders`."""

from tests.builders import RECORD, published_options, write_config, write_run

__all__ = ["RECORD", "published_options", "write_config", "write_run"]
