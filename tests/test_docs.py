"""The README and docs/: commands and links exist, and the code of the how-to runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.builders import ROOT, markdown_headings

DOCS = ROOT / "docs"
RESULTS = sorted((ROOT / "results").rglob("README.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
CODE = re.compile(r"```(\w+)\n(.*?)```", re.S)
FILE = re.compile(r"# ([\w/.]+)(, at its end)?\n")
SHORT = [
    "num_train_frames=200", "action_repeat=10",
    "eval_every_frames=200", "num_eval_episodes=1", "num_eval_processes=1", "diagnose_states=8",
    "num_random_steps=12", "batch_size=4", "head.width=16", "env.image_size=24", "agent.num_filters=4",
    "video_every_frames=0", "device=cpu",
]  # fmt: skip
NAMES = {"TASK": "task", "AGENT": "agent", "HEAD": "head", "NORM": "normalizer", "PRESET": "preset", "SEED": "seed"}
RUN = """
import json, sys
from hydra import compose, initialize_config_dir
from drq_sn.cli.config.build import config_dir
from drq_sn.cli.running.run import run
for words in json.loads(sys.argv[1]):
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        cfg = compose("train", words)
    run(cfg)
"""


def commands(page):
    """Every `make ...` of a page, in blocks and in sentences."""
    text = page.read_text()
    blocks = [code for language, code in CODE.findall(text) if language == "sh"]
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [
        *(line for line in lines if line.startswith("make ")),
        *re.findall(r"`(make [a-z][^`]*)`", CODE.sub("", text)),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text())):
        target, _, heading = link.partition("#")
        if target.startswith("http"):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if heading:
            assert heading in markdown_headings(file.read_text()), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_and_module_that_is_named_exists(page):
    text = page.read_text()
    for path in re.findall(r"`((?:drq_sn|cfg|tests|tools|docs)/[\w/.]+\.\w+)`", CODE.sub("", text)):
        assert (ROOT / path).exists() or f"`{path}`:\n\n```" in text, path  # or its content follows
    for module in re.findall(r"python -m (drq_sn[\w.]+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


@pytest.mark.parametrize("page", [*PAGES, *RESULTS], ids=lambda page: f"{page.parent.name}/{page.name}")
def test_no_line_starts_with_a_plus_which_would_be_a_list(page):
    assert not re.findall(r"^\s*\+ .*", CODE.sub("", page.read_text()), re.M)


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\)", (DOCS / "README.md").read_text()))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= linked


def test_what_the_how_to_adds_trains(tmp_path):
    """Its code, in a copy of the package, and its commands, made short."""
    for name in ("drq_sn", "cfg"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    added = []
    for language, code in CODE.findall((DOCS / "how-to.md").read_text()):
        header = FILE.match(code)
        if language not in ("python", "yaml"):
            continue
        path = tmp_path / header.group(1)
        assert path.exists() == bool(header.group(2)), path
        text = code[header.end() :]
        path.write_text(f"{path.read_text()}\n\n{text}" if header.group(2) else text)
        added.append(path)
    assert len(added) == 7
    runs = []
    for i, command in enumerate(commands(DOCS / "how-to.md")):
        variables = dict(word.split("=", 1) for word in shlex.split(command)[2:])
        if command.startswith("make train"):
            chosen = [f"{option}={variables[name]}" for name, option in NAMES.items() if name in variables]
            task = [] if "TASK" in variables else ["task=synthetic_point"]
            runs.append(
                [*chosen, *task, *SHORT, *variables.get("ARGS", "").split(), f"run_dir={tmp_path / 'runs' / str(i)}"]
            )
    assert len(runs) == 3
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-c", RUN, json.dumps(runs)]
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/run.json"))]
    assert [record["status"] for record in records] == ["finished"] * 3
