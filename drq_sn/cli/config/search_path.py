"""Directories of configuration outside the package, laid out like `cfg/`: `head/funnel.yaml` adds `head=funnel`.

Modules next to such a directory can be imported.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from drq_sn.cli.config.build import config_dir
from drq_sn.validation import InvalidInput, first_line

FILE, PACKAGE = "file://", "pkg://"
Result = TypeVar("Result")

_directories: tuple[Path, ...] = ()  # of this process, as is Hydra's search path
_caches: list[functools._lru_cache_wrapper[Any]] = []


class OwnDirectories(SearchPathPlugin):
    """Adds the directories in use to the search path of everything that Hydra composes in this process."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them."""
        for directory in _directories:
            search_path.append("drq_sn", f"{FILE}{directory}")


Plugins.instance().register(OwnDirectories)


def cached(function: Callable[..., Result]) -> functools._lru_cache_wrapper[Result]:
    """`functools.cache`, emptied when other directories are used."""
    _caches.append(functools.cache(function))
    return _caches[-1]


def own_directories() -> tuple[Path, ...]:
    """The directories in use, absolute."""
    return _directories


def config_files(group: str = "") -> list[Path]:
    """YAML files in groups, of the package and of the directories in use; those of one group, if it is given."""
    pattern = f"{group or '*'}/*.yaml"
    return [file for directory in (config_dir(), *_directories) for file in sorted(directory.glob(pattern))]


def choices_of(group: str) -> list[str]:
    """Names of the choices of a group, in alphabetical order."""
    return sorted(file.stem for file in config_files(group))


def use_directories(values: Sequence[str]) -> None:
    """Compose with the files of these directories, and of no others, from now on.

    Args:
        values: paths, `file://PATH` or `pkg://PACKAGE`.

    Raises:
        InvalidInput: if one is not a directory, or has a file that would replace one of `cfg/`.
    """
    directories = tuple(dict.fromkeys(_resolve(value) for value in values))
    for directory in directories:
        for file in config_dir().rglob("*.yaml"):
            name = file.relative_to(config_dir())
            if directory != config_dir() and (directory / name).is_file():
                raise InvalidInput(f"{directory / name} must not have the name of a file in cfg/")
        for file in sorted(directory.rglob("*.yaml")):
            _require_options(file)
    _use(directories)
    for parent in (str(directory.parent) for directory in directories):
        if parent not in sys.path:
            sys.path.append(parent)


def _require_options(file: Path) -> None:
    """Raise `InvalidInput` unless `file` holds named options in YAML, or nothing."""
    try:
        options = yaml.safe_load(file.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"{file}: not readable as YAML ({first_line(error)})") from None
    if not isinstance(options, dict):
        raise InvalidInput(f"{file} must hold named options, got {type(options).__name__}")


@contextlib.contextmanager
def directories_in_use(values: Sequence[str]) -> Iterator[None]:
    """`use_directories` while the `with` block lasts; modules next to them can be imported afterwards, too."""
    before = _directories
    use_directories(values)
    try:
        yield
    finally:
        _use(before)


def _use(directories: tuple[Path, ...]) -> None:
    global _directories
    if directories != _directories:
        _directories = directories
        for cache in _caches:
            cache.cache_clear()


def _resolve(value: str) -> Path:
    directory: Path | None = Path(value.removeprefix(FILE))
    if value.startswith(PACKAGE):
        try:
            spec = importlib.util.find_spec(value.removeprefix(PACKAGE))
        except (ImportError, ValueError):
            spec = None
        directory = next((Path(path) for path in (spec and spec.submodule_search_locations) or []), None)
    if directory is None or not directory.is_dir():
        raise InvalidInput(f"hydra.searchpath (--config-dir) must name directories of YAML files, got {value!r}")
    return directory.resolve()
