"""`drq-sn fit-replay`: from a saved replay to a figure, resumable; what cannot be is refused in one line."""

from __future__ import annotations

import pytest

from drq_sn.cli.fit_replay import run_study
from drq_sn.cli.running.run import run
from drq_sn.report.types import Figure
from drq_sn.validation import InvalidInput
from tests.builders import TINY, compose_config, read_csv

SMALL = [
    "normalizers=[none,nap]",
    "depths=[0,2]",
    "seeds=[1]",
    "num_updates=4",
    "log_every_updates=2",
    "num_states=16",
    "device=cpu",
]


def train(run_dir, *overrides):
    kept = ["head=modern2", "num_train_frames=200", "keep_checkpoint=true", "diagnose_states=0"]
    run(compose_config(*TINY, *kept, f"run_dir={run_dir}", *overrides))
    return run_dir


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """The run directory of a tiny run with its replay."""
    return train(tmp_path_factory.mktemp("made") / "run")


def draw_nothing(monkeypatch):
    monkeypatch.setattr("drq_sn.report.depth_figure.save_figure", lambda *_: Figure("depth", "", b"svg", b"pdf"))


@pytest.fixture
def _not_drawn(monkeypatch):
    draw_nothing(monkeypatch)


@pytest.fixture
def study(finished_run, tmp_path):
    """`study("depths=[1]", ...)` -> the configuration of a small study."""

    def build(*overrides):
        return compose_config(
            f"run={finished_run}", f"out_dir={tmp_path / 'out'}", *SMALL, *overrides, config="fit_replay"
        )

    return build


def test_every_fit_leaves_its_numbers_and_is_not_done_twice(study, tmp_path, monkeypatch):
    out = run_study(study())
    assert [(r["normalizer"], r["depth"], r["update"]) for r in read_csv(out / "offline.csv")] == [
        (n, d, u) for n in ("nap", "none") for d in ("0", "2") for u in ("2", "4")
    ]
    assert (out / "depth.pdf").read_bytes().startswith(b"%PDF")
    whole = (out / "offline.csv").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in (out / "fits").iterdir()}
    (out / "fits" / "none_depth_2_seed_1.csv").unlink()
    draw_nothing(monkeypatch)
    run_study(study())
    assert (out / "offline.csv").read_bytes() == whole  # bit for bit
    new = {path.name for path in (out / "fits").iterdir() if path.stat().st_mtime_ns != times[path]}
    assert new == {"none_depth_2_seed_1.csv"}


@pytest.mark.usefixtures("_not_drawn")
def test_every_head_sees_the_same_batches(study, monkeypatch):
    from drq_sn.training.replay import UniformReplay

    drawn, peek = [], UniformReplay.peek
    monkeypatch.setattr(UniformReplay, "peek", lambda self, n, seed: drawn.append((n, seed)) or peek(self, n, seed))
    run_study(study("depths=[1]"))
    assert drawn == 2 * [(16, 0), *((8, 1_000_000 + i) for i in range(4))]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run=nowhere"], "nowhere is not a run directory"),
        (["run=null"], "run must be a run directory"),
        (["normalizers=[spectrl]"], "unknown normalizers 'spectrl'; did you mean 'spectral'"),
        (["normalizers=[]"], "number of normalizers must be"),
        (["depths=[-1]"], "depths must be"),
        (["num_updates=0"], "num_updates must be"),
        (["num_updates=2000000"], "num_updates must be an integer >= 1 and <= 1000000"),
        (["depths=[5000]"], "got 5000, with depth 5000"),
        (["seeds=[a]"], "seeds must be"),
        (["seeds=[5000000000]"], "seeds must be an integer >= 0 and <= 4294967295"),
    ],
)
def test_wrong_values_are_named_and_leave_nothing(study, tmp_path, overrides, message):
    with pytest.raises(InvalidInput) as error:
        run_study(study(*overrides))
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_run_without_its_replay_is_refused(study, finished_run, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_bytes((finished_run / "config.yaml").read_bytes())
    with pytest.raises(
        InvalidInput, match="has no checkpoint; use an unfinished run, or one trained with keep_checkpoint=true"
    ):
        run_study(study(f"run={bare}"))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_not_drawn")
def test_another_study_or_replay_in_the_same_directory_is_refused(study, tmp_path):
    run_study(study("normalizers=[none]", "depths=[0]"))
    with pytest.raises(InvalidInput, match="holds a study with"):
        run_study(study("num_updates=6"))
    with pytest.raises(InvalidInput, match="holds a study with"):
        run_study(study("normalizers=[none]", "depths=[0]", f"run={train(tmp_path / 'other', 'seed=2')}"))
    with pytest.raises(InvalidInput, match="holds other files"):
        run_study(study(f"out_dir={tmp_path}"))
