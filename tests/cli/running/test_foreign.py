"""Run directories of other people, resumed or read: objects in any of their files stay packed."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
import yaml

import drq_sn
from drq_sn.cli import evaluate, fit_replay, train
from drq_sn.cli.report import read_runs
from tests.builders import TINY, Payload, invoke


@pytest.fixture
def sentinel(tmp_path):
    """A directory that exists if a payload was unpacked."""
    return tmp_path / "ran"


def sign(folder, name):
    """Make every manifest vouch for the file `name`, as whoever made the checkpoint can."""
    data = (folder / name).read_bytes()
    for path in folder.glob("*.json"):
        body = json.loads(path.read_text())["body"]
        for entries in (body["files"], body["replay"]):
            if name in entries:
                entries[name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({"sha256": digest, "body": body}))


def poison_state(folder, payload):
    for path in folder.glob("[0-9]*.pt"):
        torch.save({"format": payload, "agent": payload}, path)
        yield path.name


def poison_replay(folder, payload):
    for path in folder.glob("*.npz"):
        np.savez(path, frames=np.array([payload], dtype=object))
        yield path.name


@pytest.mark.parametrize("poison", [poison_state, poison_replay])
def test_checkpoints_are_read_without_unpickling(stopped_run, tmp_path, sentinel, poison):
    folder = stopped_run / "checkpoint"
    for name in list(poison(folder, Payload(sentinel))):
        sign(folder, name)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert before
    fit = [f"run={stopped_run}", f"out_dir={tmp_path / 'out'}", "normalizers=[none]", "depths=[1]", "seeds=[1]"]
    for command, words in ((train, [*TINY, f"run_dir={stopped_run}"]), (fit_replay, [*fit, "device=cpu"])):
        result = invoke(command.main, *words)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert result.stderr.startswith(f"error: {folder}")
    assert not sentinel.exists()
    assert not (tmp_path / "out").exists()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_event_files_are_not_read(finished_run, sentinel):
    event_file = finished_run / "events.out.tfevents.1.foreign"
    event_file.write_bytes(pickle.dumps(Payload(sentinel)))
    assert invoke(evaluate.main, f"run={finished_run}", "episodes=1", "device=cpu").returncode == 0
    drq_sn.load_agent(finished_run, "cpu")
    (run,), warnings = read_runs([str(finished_run)])
    assert run.evaluations
    assert not warnings
    assert invoke(train.main, *TINY, f"run_dir={finished_run}").returncode == 0
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("task", "${oc.env:HOME}", "task must be a plain value"),
        ("num_train_frames", None, "num_train_frames must be an integer >= 1, got None"),
        ("num_train_frames", [1], "num_train_frames must be an integer >= 1, got [1]"),
        ("head", [1], "holds another run: "),
    ],
)
def test_training_reads_a_saved_configuration_as_data(finished_run, name, value, message):
    path = finished_run / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {name: value}))
    before = path.read_bytes()
    result = invoke(train.main, *TINY, f"run_dir={finished_run}", "num_train_frames=600")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert message in result.stderr
    assert path.read_bytes() == before
