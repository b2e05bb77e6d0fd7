"""What a bundle holds, file by file, and whether it still does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

NAME, FORMAT = "MANIFEST.json", 1
CHUNK_BYTES = 1 << 20
SHOWN = 3


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Describe every file of `folder` in its manifest, with `facts` before them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    files = [describe(folder, path, facts["version"]) for path in paths]
    (folder / NAME).write_text(json.dumps({"format": FORMAT, **facts, "files": files}, indent=1) + "\n")


def describe(folder: Path, path: Path, version: str) -> dict[str, Any]:
    """Name, version, size in bytes and SHA-256 of one file; what is no wheel bears the project's `version`."""
    name = "drq_sn"
    if path.suffix == ".whl":
        name, version = path.name.split("-")[:2]
    relative = path.relative_to(folder).as_posix()
    return {"path": relative, "name": name, "version": version, "size": path.stat().st_size, "sha256": sha256(path)}


def sha256(path: Path) -> str:
    """SHA-256 of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def read(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`.

    Raises:
        ValueError: if it has none that can be read; the message is one line.
    """
    try:
        manifest = json.loads((folder / NAME).read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']}")
        return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is not a bundle: it has no {NAME} that can be read") from error


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """See that `folder` holds what `manifest` says and nothing else, but for the unpacked source.

    Raises:
        ValueError: naming in one line the files that are missing, changed or not in the manifest.
    """
    entries = {entry["path"]: entry for entry in manifest["files"]}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    unpacked = f"{manifest['source']}/"
    extra = {path for path in present - entries.keys() - {NAME} if not path.startswith(unpacked)}
    changed = {path for path in present & entries.keys() if not _is_whole(folder / path, entries[path])}
    troubles = {"missing": entries.keys() - present, "changed": changed, "not in the manifest": extra}
    found = [f"{reason}: {_few(sorted(paths))}" for reason, paths in troubles.items() if paths]
    if found:
        raise ValueError(f"{folder} is not the bundle that was made, copy it again ({'; '.join(found)})")


def _is_whole(path: Path, entry: dict[str, Any]) -> bool:
    return bool(path.stat().st_size == entry["size"] and sha256(path) == entry["sha256"])


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
