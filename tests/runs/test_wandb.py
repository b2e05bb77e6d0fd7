"""The logger for Weights & Biases in docs/dashboards.md, in its offline mode."""

from __future__ import annotations

import importlib.util
import json
import os
import re

import pytest

from tests.builders import ROOT, TINY, run_module

pytestmark = pytest.mark.process
FILE = re.compile(r"```\w+\n# ([\w/]+\.\w+)\n(.*?)```", re.S)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_logger_in_the_docs_logs_a_run_and_its_video(tmp_path):
    for path, text in FILE.findall((ROOT / "docs" / "dashboards.md").read_text()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    options = [option for option in TINY if not option.startswith("video_every")]
    paths = os.pathsep.join([str(ROOT), str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = run_module(
        "drq_sn.cli.train", "--config-dir", "my_cfg", "logger=wandb", "logger.mode=offline", *options,
        "video_every_frames=400", "run_dir=run", cwd=tmp_path, env={"PYTHONPATH": paths},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "is disabled" not in result.stderr
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert list(folder.glob("run-*.wandb"))
    assert len(list(folder.glob("files/media/videos/eval/*.mp4"))) == 2  # frames 0 and 400
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert not [override for override in record["overrides"] if override["name"].startswith("logger")]
