"""The hyperparameter search of docs/sweeps.md, on the synthetic environment: it prunes, and resumes when stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal

import pytest

import drq_sn
from tests.builders import ROOT, TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore"),  # of Optuna and its database
    pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed"),
]
(RECIPE,) = re.findall(r"```python\n# search.py\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.S)
OPTIONS = [*(option for option in TINY if option != "head=mlp2"), "diagnose_states=0"]
PRUNER = "optuna.pruners.MedianPruner(n_startup_trials=5)"


def search(num_trials, pruner=PRUNER):
    """Run the recipe with tiny runs and return its study."""
    text = re.sub(r"OPTIONS = .*", f"OPTIONS = {list({o.split('=')[0]: o for o in OPTIONS}.values())}", RECIPE)
    text = re.sub(r"NUM_TRIALS = .*", f"NUM_TRIALS = {num_trials}", text)
    assert PRUNER in text
    names = {}
    exec(text.replace(PRUNER, pruner), names)
    return names["study"]


def test_the_search_prunes_and_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, heard = drq_sn.train, []

    def stopped(*options, callback):
        def tell(evaluation):
            callback(evaluation)
            heard.append(evaluation)
            if len(heard) == 5:  # the second evaluation of the second trial
                os.kill(os.getpid(), signal.SIGTERM)

        return train(*options, callback=tell)

    monkeypatch.setattr(drq_sn, "train", stopped, raising=False)
    with pytest.raises(drq_sn.Stopped):
        search(2)
    monkeypatch.setattr(drq_sn, "train", train, raising=False)
    study = search(2)
    _, second, third = study.trials
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert third.params == second.params
    assert list(third.intermediate_values) == [0, 200, 400]
    assert second.intermediate_values.items() <= third.intermediate_values.items()
    run_dirs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("runs/search/*/run.json")}
    assert sorted("resumed" in record for record in run_dirs.values()) == [False, True]

    study = search(3, "optuna.pruners.ThresholdPruner(lower=1e9)")
    assert study.trials[-1].state.name == "PRUNED"
    assert list(study.trials[-1].intermediate_values) == [0]
    statuses = [json.loads(path.read_text())["status"] for path in tmp_path.glob("runs/search/*/run.json")]
    assert sorted(statuses) == ["finished", "finished", "interrupted"]
    assert len(search(3).trials) == 4
