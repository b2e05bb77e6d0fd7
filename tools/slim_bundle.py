"""What a slim bundle leaves to the machine it is for, leaves out, and cuts from wheels."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

# name: (module, versions); setup.cfg and the bundled wheels ask for these, and machines with torch have them
EXPECTED = {
    "torch": ("torch", ">=2.6"),
    "numpy": ("numpy", ">=1.26"),  # with 2.5 dm_control works and warns
    "scipy": ("scipy", ""),
    "tensorboard": ("tensorboard", ">=2.15"),
    "matplotlib": ("matplotlib", ""),
    "protobuf": ("google.protobuf", ">=3.19.4"),
    "absl-py": ("absl", ">=0.7"),
    "requests": ("requests", ""),
    "tqdm": ("tqdm", ">=4.66"),
    "pyparsing": ("pyparsing", ">=3"),
    "pillow": ("PIL", ">=8.3.2"),
    "packaging": ("packaging", ""),
    "typing-extensions": ("typing_extensions", ">=4.10"),
    "fsspec": ("fsspec", ""),
}
# what only the expected packages need: torch; matplotlib; tensorboard; requests
COME_WITH_EXPECTED = (
    *("filelock", "jinja2", "markupsafe", "mpmath", "networkx", "sympy"),
    *("contourpy", "cycler", "fonttools", "kiwisolver", "python-dateutil", "six"),
    *("grpcio", "markdown", "tensorboard-data-server", "werkzeug"),
    *("certifi", "charset-normalizer", "idna", "urllib3"),
)
REPORT = "the statistics of `make report`"
CHECKS = "`make lint` and `make types`"
LEFT_OUT = {
    **dict.fromkeys(("arch", "formulaic", "interface-meta", "narwhals", "pandas", "patsy", "pytz"), REPORT),
    **dict.fromkeys(("rliable", "seaborn", "statsmodels", "tzdata"), REPORT),
    **dict.fromkeys(("ast-serialize", "librt", "mypy", "mypy-extensions", "pathspec", "ruff"), CHECKS),
}
CUT = {
    "dm_control": (
        "dm_control/blender/",
        "dm_control/locomotion/",
        "dm_control/mjcf/test_assets/",
        "dm_control/mujoco/testing/",
        "dm_control/suite/all_domains.png",
        "dm_control/suite/dog_assets/",
    ),
    "mujoco": (
        "mujoco/_render_filament",
        "mujoco/experimental/",
        "mujoco/include/",
        "mujoco/sysid/",
        "mujoco/testdata/",
    ),
    "pyopengl": ("OpenGL/DLLS/",),
    "imageio_ffmpeg": ("imageio_ffmpeg/binaries/ffmpeg-",),
}
WITHOUT = [
    "the statistics of `make report` (make that report from the copied runs on another machine)",
    "the dog tasks of the suite (their meshes are cut)",
    "an ffmpeg: films need one on the PATH; without it runs warn and go on",
]


def is_left(name: str) -> bool:
    """Whether a slim bundle goes without the package `name`."""
    return name in EXPECTED or name in COME_WITH_EXPECTED or name in LEFT_OUT


def facts() -> dict[str, Any]:
    """What the manifest of a slim bundle says of this."""
    expected = {name: {"module": module, "versions": versions} for name, (module, versions) in EXPECTED.items()}
    return {"expected": expected, "left_out": LEFT_OUT, "cut": CUT}


def cut_wheel(wheel: Path, prefixes: tuple[str, ...]) -> None:
    """Rewrite `wheel` without the files whose path starts with one of `prefixes`; its RECORD loses their lines."""
    partial = wheel.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for item in old.infolist():
            if item.filename.startswith(prefixes):
                continue
            data = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                data = _cut_record(data, prefixes)
            item.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(item, data)
    partial.replace(wheel)


def _cut_record(data: bytes, prefixes: tuple[str, ...]) -> bytes:
    kept = [row for row in csv.reader(io.StringIO(data.decode())) if row and not row[0].startswith(prefixes)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    return text.getvalue().encode()
