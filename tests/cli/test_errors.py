"""Bad input: one clear line, exit code 2, nothing on disk."""

from __future__ import annotations

import shlex

import pytest

from drq_sn.cli import bench, doctor, evaluate, export, fit_replay, profile, report, train
from drq_sn.cli.config.overrides import check_overrides, parse_override, quote_values
from drq_sn.cli.running.run import run
from drq_sn.validation import InvalidInput
from tests.builders import invoke


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("agent=drqv3", "unknown agent 'drqv3'; did you mean 'drqv2'"),
        ("env=gymnasim", "unknown env 'gymnasim'; did you mean 'gymnasium'?"),
        ("head=modren4", "unknown head 'modren4'; did you mean 'modern4'"),
        ("normalizer=spectrl", "did you mean 'spectral'"),
        ("augmentation=kutout", "did you mean 'cutout'"),
        ("preset=labtop", "did you mean 'laptop'"),
        ("bach_size=3", "unknown option 'bach_size'; did you mean 'batch_size'"),
        ("head.critic.num_bloks=3", "did you mean 'head.critic.num_blocks'"),
        ("seed=1,2", "--multirun"),
        ("head=mlp2,mlp5 -m", "unknown head 'mlp5'; did you mean"),
        ("nonsense", "arguments must be option=value, got 'nonsense'"),
        ("run_dir=a=1", """special characters need quotes, such as 'run_dir="a=1"'"""),
        ("env=3", "env must be one of gymnasium, minatar, suite, got '3'"),
        ("head.actor=null", "head.actor is a group"),
        ("agent.std_schedule=1", "agent.std_schedule is a group"),
        ("~agent.tau", "~agent.tau: options cannot be removed"),
        ("agent.lr=1", "agent.lr has been renamed to lr"),
        ("shift_pad=2,3 -m", "shift_pad has been renamed to augmentation.pad"),
        ("preset=full", "preset=full has been renamed to preset=published"),
        ("+foo=3", "unknown option 'foo'"),
    ],
)
def test_the_command_line_is_checked_before_anything_runs(words, message):
    with pytest.raises(InvalidInput) as error:
        check_overrides(words.split(), "train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    ["task=walker_walk seed=3", "agent=drq,drqv2 seed=range(1,4) --multirun", "agent=drq agent.initial_temperature=0.2",
     "+head.critic.new=1",
     "normalizer.layers=[-2,-3]", "hydra.job.num=3"],
)  # fmt: skip
def test_good_command_lines_pass(words):
    check_overrides(words.split(), "train")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("task=cartpole_balanse", "did you mean 'cartpole_balance'"),
        ("task=cheetah-run", "did you mean 'cheetah_run'"),
        ("batch_size=-1", "batch_size must be an integer >= 1"),
        ("num_train_frames=402", "num_train_frames must be a multiple of 4"),
        ("eval_every_frames=0", "eval_every_frames must be"),
        ("num_eval_episodes=0", "num_eval_episodes must be"),
        ("device=cuda:77", "device must be"),
        ("device=0", "device must be one of"),
        ("lr=abc", "lr must be a number > 0"),
        ("lr=inf", "lr must be a number > 0, got inf"),
        ("env_limit_seconds=1e30", "env_limit_seconds must be a number > 0 and <= 1e+06"),
        ("checkpoint_every_seconds=inf", "checkpoint_every_seconds must be a number > 0"),
        ("gamma=1.5", "gamma must be a number >= 0 and <= 1"),
        ("seed=-1", "seed must be"),
        ("head.width=0", "head.width must be"),
        ("env.image_size=10", "env.image_size must be an integer >= 17"),
        ("action_repeat=0", "action_repeat must be"),
        ("normalizer=spectral normalizer.layers=[9]", "normalizer.layers must be"),
        ("num_random_steps=2", "num_random_steps must be"),
        ("augmentation=random_shift augmentation.pad=0", "augmentation.pad must be"),
        ("num_threads=0", "num_threads must be"),
        ("checkpoint_every_seconds=0", "checkpoint_every_seconds must be"),
        ("checkpoint_every_frames=-1", "checkpoint_every_frames must be"),
        ("env_limit_seconds=no", "env_limit_seconds must be"),
        ("keep_checkpoint=3", "keep_checkpoint must be"),
        ("init_networks=actor", "unknown init_networks 'actor'; did you mean 'encoder'?"),
        ("init_from=nowhere", "nowhere is not a run directory"),
        ("num_train_frames=abc", "num_train_frames must be"),
        ("num_train_frames=100.5", "num_train_frames must be"),
        ("normalizer=spectral normalizer.layers=5", "normalizer.layers must be"),
        ("lr_schedule.value=-1", "lr_schedule at step 0 must be a number >= 0"),
        ("lr_schedule=linear lr_schedule.end=0", "lr_schedule.end must be"),
        ("normalizer=spectral normalizer.networks=actor", "normalizer.networks must be a list"),
        ("normalizer=nap +normalizer.minimum_sigma=2", "unexpected keyword argument 'minimum_sigma'"),
        ("normalizer=none +normalizer.layers=all", "unexpected keyword argument 'layers'"),
        ("diagnose_states=-1", "diagnose_states must be"),
        ("agent.adam_eps=-1", "agent.adam_eps must be"),
        ("penalty=gradient penalty.coefficient=a", "penalty.coefficient must be"),
        ("normalizer=spectral normalizer.layers=[a]", "normalizer.layers must be"),
        ("normalizer=spectral normalizer.gradient_through_sigma=abc", "must be true, false or linear"),
        ("env.shadows=dark task=cartpole_balance", "env.shadows must be"),
        ("seed=4294967296", "seed must be"),
        ("run_suffix=null", "run_suffix must be text"),
        ("agent.pixel_offset=abc", "agent.pixel_offset must be"),
        ("+head.critic.bogus=1", "unexpected keyword argument 'bogus'"),
        # far too large: refused, not tried
        ("num_threads=10000", "num_threads must be an integer >= 1 and <= "),
        ("env.image_size=100000", "env.image_size must be an integer >= 17 and <= 4096, got 100000"),
        ("env.image_size=4096", "the run needs at least"),
        ("env.frame_stack=1000000", "env.frame_stack must be an integer >= 1 and <= 100"),
        ("head.width=1000000000", "head.width must be an integer >= 1 and <= 1048576"),
        ("head.width=1000000", "the run needs at least"),
        ("head=modern2 head.critic.num_blocks=1000000000", "head.num_blocks must be an integer >= 0 and <= 1000"),
        ("agent.num_filters=100000000", "agent.num_filters must be an integer >= 1 and <= 16384"),
        ("agent.trunk_dim=1000000000000", "agent.trunk_dim must be an integer >= 1 and <= 1048576"),
        ("agent.std_schedule.duration_steps=0", "agent.std_schedule.duration_steps must be an integer >= 1"),
        ("batch_size=abc", "batch_size must be an integer >= 1, got 'abc'"),
        ("env._target_=./my_env.make_env", "env._target_ must be MODULE.FUNCTION without a path"),
        (
            "agent=drq update_every_steps=3",
            "agent.actor_update_every_steps must be a multiple of 3 (update_every_steps), got 2",
        ),
        (
            "normalizer=spectral normalizer.num_iterations=1000000000",
            "normalizer.num_iterations must be an integer >= 1 and <= 1000",
        ),
        ("num_train_frames=1000000000000000000000", "num_train_frames must be an integer >= 1 and <= 1000000000000"),
        ("eval_every_frames=1000000000000000000000", "eval_every_frames must be an integer >= 1 and <= 1000000000000"),
        ("num_eval_episodes=100000000000", "num_eval_episodes must be an integer >= 1 and <= 10000"),
        ("num_eval_processes=100000", "num_eval_processes must be an integer >= 1 and <= 256"),
        ("diagnose_states=100000000000", "diagnose_states must be an integer >= 0 and <= 100000"),
        ("batch_size=10000000000", "the run needs at least"),
        ("n_step=1000000000000", "n_step must be an integer >= 1 and <= 1000"),
        ("augmentation.pad=100", "augmentation.pad must be an integer >= 1 and <= 23, got 100"),
        # without effect
        (
            "normalizer=spectral normalizer.networks=[]",
            "normalizer.networks must be a list of actor, critic or both, got []",
        ),
        ("+env.foo=1", "unexpected keyword argument 'foo'"),
        # of another kind
        ("agent._target_=os.system", "agent._target_ must be a class or function of this option, got 'os.system'"),
        ("agent.std_schedule._target_=os.system", "agent.std_schedule._target_ must be a class or function"),
        ("agent._target_=nothing.there", "agent._target_ must be a class or function of this option"),
        ("agent._target_=builtins.print", "builtins.print: 'adam_eps' is an invalid keyword argument"),
        ("normalizer._target_=os.system", "normalizer._target_ must be a class or function"),
    ],
)
def test_a_wrong_value_is_named_and_leaves_no_folder(configure, tmp_path, word, message):
    with pytest.raises(InvalidInput) as error:
        run(configure(*word.split()))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


class NotAnAgent:
    """Takes every option."""

    def __init__(self, *arguments, **options):
        pass


def test_an_agent_must_be_one(agent_of):
    with pytest.raises(InvalidInput, match=r"agent._target_ must be an agent, got 'tests.cli.test_errors.NotAnAgent'"):
        agent_of("agent._target_=tests.cli.test_errors.NotAnAgent")


def test_a_run_without_an_update_says_so(configure, capsys):
    run(configure("num_train_frames=20", "eval_every_frames=20"))
    assert "warning: the run ends without an update: num_random_steps=30 and" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["normalizer.layers=none"], ["head=mlp2", "head.actor.num_hidden_layers=1",
                                      "head.critic.num_hidden_layers=1"]])  # fmt: skip
def test_a_normalizer_without_layers_says_so(agent_of, options):
    with pytest.warns(UserWarning, match="normalizer: drq_sn.networks.normalizers.Spectral acts on no layer"):
        agent_of(*options)
    agent_of(*options, "normalizer.trunk=true")


def test_a_replay_that_cannot_fit_leaves_no_folder(configure, tmp_path, monkeypatch):
    monkeypatch.setattr("drq_sn.training.replay.available_memory", lambda *_: 1000)
    with pytest.raises(InvalidInput, match="GB are free"):
        run(configure())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(configure, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"run_dir must be a writable directory, got .*cannot be created"):
        run(configure(run_dir="file/run"))


def test_the_current_folder_is_not_a_runs_own(configure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = configure()
    cfg.run_dir = ""
    with pytest.raises(InvalidInput, match="run_dir must be a path, got ''"):
        run(cfg)
    cfg.run_dir = "."
    with pytest.raises(InvalidInput, match="run_dir is empty or the current directory"):
        run(cfg)
    assert list(tmp_path.iterdir()) == []


def test_a_users_files_are_never_overwritten(configure, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="holds files but no run"):
        run(configure())
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "words",
    [
        ["task=synthetic_pont"],
        ["task=synthetic_pont", "-m", "seed=1,2"],  # as in `make train ARGS="-m seed=1,2"`
    ],
)
def test_the_command_ends_with_code_2_and_one_line(tmp_path, words):
    result = invoke(train.main, *words, f"run_dir={tmp_path / 'run'}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert result.returncode == 2
    assert result.stderr == "error: unknown task 'synthetic_pont'; did you mean 'synthetic_point'?\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("run_dir=[a]", "run_dir must be text, got ['a']"),
        (f"run_dir={'a' * 300}", f"run_dir must be a path, got {'a' * 300}: File name too long"),
        ("lr=${foo}", "${...} must name an option: Interpolation key 'foo' not found"),
    ],
)
def test_a_value_of_a_wrong_kind_is_one_line(word, message):
    result = invoke(train.main, "task=synthetic_point", word)
    assert (result.returncode, result.stderr) == (2, f"error: {message}\n")


@pytest.mark.parametrize("name", ["lr=1e-4,w=2", "run#1", "it's", 'a "b"', "运行_é", "a[1](2)&{3}", "back\\slash="])
def test_a_path_is_quoted_as_typed(name):
    (word,) = quote_values([f"run_dir=/tmp/{name}"], several=False)
    assert str(parse_override(word).value()) == f"/tmp/{name}"


@pytest.mark.parametrize("name", ["lr=1e-4,w='2'", "back\\slash="])
def test_a_path_is_taken_as_typed(tmp_path, monkeypatch, name):
    runs = []
    monkeypatch.setattr(train, "run", lambda cfg: runs.append(cfg.run_dir))
    result = invoke(train.main, f"run_dir={tmp_path / name}")
    assert (result.returncode, result.stderr) == (0, "")
    assert runs == [str(tmp_path / name)]


@pytest.mark.parametrize(
    ("words", "several", "remedy"),
    [
        (["runs=[a=1,b]"], False, 'runs=["a=1","b"]'),
        (["run=~/a"], False, 'run="~/a"'),
        (["run_dir=a=1,b=2"], True, 'run_dir="a=1","b=2"'),
    ],
)
def test_what_may_not_be_meant_literally_is_refused_with_its_quoted_form(words, several, remedy):
    with pytest.raises(InvalidInput, match="special characters need quotes") as error:
        quote_values(words, several)
    assert shlex.split(str(error.value).split("such as ")[1]) == [remedy]
    assert quote_values([remedy], several) == [remedy]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1,2"], "one value with a comma needs quotes: 'seed=\"1,2\"'"),
        (["--seed=3"], "--seed=3: options have no dashes; use seed=VALUE"),
        (["--cfg", "job", "taks=foo"], "unknown option 'taks'; did you mean 'task'?"),
        (["-m", "lr=1e-3,1e-4"], "run_suffix=_lr${lr}"),
        (["-m", "run_dir=x,y/../x"], "set a run_dir that differs"),
        (["-m", "task=synthetic_point,synthetic_pont"], "did you mean 'synthetic_point'"),
        (["-m", "head=mlp2,modern4", "seed=1,-1"], "seed must be"),
    ],
)
def test_what_cannot_be_trained_is_known_before_anything_is(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "run", lambda cfg: pytest.fail("trained"))
    result = invoke(train.main, *words)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_flags_of_hydra_are_left_to_it():
    result = invoke(train.main, "--cfg", "job", "seed=7")
    assert (result.returncode, result.stderr) == (0, "")
    assert "seed: 7" in result.stdout


@pytest.mark.parametrize("option", ["foo", "+foo.bar", "agent.nonsense", "e", "env.imagesize"])
def test_an_unknown_option_names_at_most_three(option):
    with pytest.raises(InvalidInput, match="unknown option") as error:
        check_overrides([f"{option}=1"], "train")
    assert str(error.value).count("'") <= 2 * 4


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (evaluate.main, ["run=nowhere", "weights=first"], "weights must be one of best, last"),
        (evaluate.main, ["run=nowhere", "episodes=0"], "episodes must be an integer >= 1"),
        (evaluate.main, ["run=nowhere", "episodes=100000000000"], "episodes must be an integer >= 1 and <= 10000"),
        (evaluate.main, ["run=nowhere", "video=maybe"], "video must be true or false"),
        (evaluate.main, ["run=nowhere", "seed=99999999999999999999"], "seed must be an integer >= 0 and <= 4294967295"),
        (report.main, ["runs=[nowhere]", "out="], "out must be a path, got ''"),
        (report.main, ["num_bootstrap=1000000000000"], "num_bootstrap must be an integer >= 1 and <= 1000000"),
        (export.main, [], "run must be a run directory"),
        (export.main, ["run=nowhere", "weights=first"], "weights must be one of best, last"),
        (export.main, ["run=nowhere", "out="], "out must be a path, got ''"),
        (fit_replay.main, [], "run must be a run directory"),
        (fit_replay.main, ["run=nowhere", "out_dir="], "out_dir must be a path, got ''"),
        (profile.main, ["out_dir="], "out_dir must be a path, got ''"),
        (bench.main, ["out_dir="], "out_dir must be a path, got ''"),
        (profile.main, ["heads=a,b"], "heads=a,b: several values need brackets: heads=[a,b]"),
        (doctor.main, ["foo"], "doctor takes no arguments, got foo"),
    ],
)
def test_bad_input_of_other_commands_is_one_line(tmp_path, monkeypatch, main, words, message):
    monkeypatch.chdir(tmp_path)
    result = invoke(main, *words)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []
