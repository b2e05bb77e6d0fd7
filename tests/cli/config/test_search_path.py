"""Heads, environments and other parts outside the package, in a directory laid out like `cfg/`."""

from __future__ import annotations

import json
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from drq_sn.cli import evaluate, sweep, train
from drq_sn.cli.config.identify import read_run
from drq_sn.cli.config.overrides import check_overrides, initialized, search_path_overrides, take_directories
from drq_sn.cli.config.search_path import choices_of, directories_in_use, own_directories, use_directories
from drq_sn.cli.launching.local import LocalLauncher
from drq_sn.report.types import Variant
from drq_sn.validation import InvalidInput
from tests.builders import TINY, invoke, run_module

PARTS = """
from drq_sn.agents.drqv2 import DrQV2
from drq_sn.envs.synthetic import PointMass
from drq_sn.networks.heads import MLPHead
from drq_sn.networks.normalizers import Normalizer

class Funnel(MLPHead): pass
class Own(Normalizer): pass
class Agent(DrQV2): pass
def make(seed=0): return PointMass(seed)
"""
FILES = {
    "head/funnel.yaml": "defaults: [mlp2]\n_target_: own_parts.Funnel\n",
    "normalizer/own.yaml": "defaults: [none]\n_target_: own_parts.Own\n",
    "agent/mine.yaml": "# @package _global_\ndefaults: [drqv2]\nagent:\n  _target_: own_parts.Agent\n",
    "env/dot.yaml": "defaults: [suite]\n_target_: own_parts.make\n",
    "experiment/ours.yaml": "defaults: [table1]\n",
}
OWN = ["env=dot", "task=dot", "head=funnel", "normalizer=own", "agent=mine"]
SMALL = [option for option in TINY if not option.startswith(("head=", "task="))]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A project with `own_parts.py` and a directory of configuration, `my cfg`, which is returned; we are elsewhere."""
    directory = tmp_path / "project" / "my cfg"
    for name, text in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (tmp_path / "project" / "own_parts.py").write_text(PARTS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield directory
    sys.modules.pop("own_parts", None)
    use_directories([])


@pytest.mark.slow
@pytest.mark.process
def test_parts_outside_the_package_train_and_are_called_by_their_files_names(own, tmp_path):
    """Evaluation needs the directory, too; a report does not."""
    run_dir = tmp_path / "run"
    options = [*SMALL, *OWN, f"run_dir={run_dir}", "num_train_frames=200", "diagnose_states=0"]
    result = invoke(train.main, "--config-dir", own, *options)
    assert result.returncode == 0, result.stderr
    record = json.loads((run_dir / "run.json").read_text())
    assert {name: record["choices"][name] for name in ("agent", "head", "normalizer")} == {
        "agent": "mine",
        "head": "funnel",
        "normalizer": "own",
    }
    assert not [override for override in record["overrides"] if override["name"].startswith("agent._")]
    words = [f"run={run_dir}", "episodes=1", "device=cpu"]
    assert "must be a target of cfg/" in invoke(evaluate.main, *words).stderr
    result = invoke(evaluate.main, f"hydra.searchpath=[{own}]", *words)
    assert result.returncode == 0, result.stderr
    with directories_in_use([]):
        assert read_run(run_dir).variant == Variant("mine", "funnel", "own")


@pytest.mark.slow
@pytest.mark.process
def test_the_runs_of_a_sweep_find_them(own, tmp_path):
    """In their evaluation processes, too."""
    words = [*SMALL, *OWN, "seed=1,2", "num_train_frames=200", "num_eval_processes=2"]
    result = run_module("drq_sn.cli.sweep", "--config-dir", own, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "runs/dot/mine_funnel_own/seed_2/weights.pt").exists()


def test_a_sweep_tells_its_runs_where_the_files_are(own, monkeypatch):
    launched = []

    def launch(self, jobs, say, exit_codes):
        launched.extend(jobs)
        exit_codes.update(dict.fromkeys(jobs, 0))

    monkeypatch.setattr(LocalLauncher, "launch", launch)
    invoke(sweep.main, "--config-dir", own, "env=dot", "task=dot", "head=funnel,mlp2")
    assert [take_directories(job.overrides)[1] for job in launched] == [[str(own)], [str(own)]]
    assert [job.overrides[-2] for job in launched] == ["head=funnel", "head=mlp2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["head=funel"], "unknown head 'funel'; did you mean 'funnel'?"),
        (["env=dots"], "unknown env 'dots'; did you mean 'dot'?"),
        (["head=funnel", "head.widht=1"], "unknown option 'head.widht'; did you mean 'head.width' or"),
    ],
)
def test_near_names_are_those_of_both(own, words, message):
    assert message in invoke(train.main, "--config-dir", own, *words).stderr
    assert message not in invoke(train.main, *words).stderr


def test_the_choices_of_a_process_are_those_of_its_command_line(own):
    with directories_in_use([str(own)]), initialized():
        assert "funnel" in GlobalHydra.instance().config_loader().get_group_options("head")
        assert ("funnel" in choices_of("head"), "ours" in choices_of("experiment")) == (True, True)
        assert take_directories(search_path_overrides()) == ([], [str(own)])
    assert ("funnel" in choices_of("head"), "ours" in choices_of("experiment"), own_directories()) == (False, False, ())


@pytest.mark.parametrize(
    ("words", "others", "directories"),
    [
        (["-m", "-cd", "a", "seed=1,2"], ["-m", "seed=1,2"], ["a"]),
        (["--config-dir=a b", "hydra.searchpath=['c,d',file:///e]"], [], ["a b", "c,d", "file:///e"]),
        (["hydra.searchpath=a=b", "x=1"], ["x=1"], ["a=b"]),
    ],
)
def test_directories_are_taken_off_the_command_line(words, others, directories):
    assert take_directories(words) == (others, directories)


def test_help_lists_choices_of_both(own):
    help_text = " ".join(invoke(train.main, "--config-dir", str(own), "--help").stdout.split())
    assert "simba, bronet, none; yours: funnel" in help_text
    assert "dqn, c51; may choose other defaults above; yours: mine" in help_text


def test_a_package_can_be_named(own):
    with directories_in_use(["pkg://drq_sn.report.published"]):
        assert own_directories()[0].name == "published"


def test_what_cannot_be_used_is_one_line(own, tmp_path):
    (own / "head" / "mlp2.yaml").write_text("")
    for name, text in {"broken": "a: [", "list": "- 1"}.items():
        (tmp_path / name / "head").mkdir(parents=True)
        (tmp_path / name / "head" / "x.yaml").write_text(text)
    for words, message in [
        (["--config-dir", tmp_path / "broken"], "broken/head/x.yaml: not readable as YAML"),
        (["--config-dir", tmp_path / "list"], "list/head/x.yaml must hold named options, got list"),
        (["--config-dir"], "--config-dir must be followed by a directory"),
        (["--config-dir", "missing"], "must name directories of YAML files, got 'missing'"),
        (["hydra.searchpath=[1]"], "hydra.searchpath must be a list of directories, got [1]"),
        (["hydra.searchpath=[pkg://no.such]"], "must name directories of YAML files, got 'pkg://no.such'"),
        (["--config-dir", own], f"{own / 'head' / 'mlp2.yaml'} must not have the name of a file"),
    ]:
        result = invoke(train.main, *words)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert message in result.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_groups_of_hydra_can_be_chosen():
    check_overrides(["hydra/job_logging=disabled", "hydra/launcher=basic"], "train")
    with pytest.raises(InvalidInput, match="unknown hydra/job_logging 'disable'; did you mean 'disabled'"):
        check_overrides(["hydra/job_logging=disable"], "train")
