import pytest
import torch

from drq_sn.runs.files import WeightsWriter, load_weights, write_json
from drq_sn.validation import InvalidInput


def save_weights(folder, networks, frame, episode_return=0.0):
    WeightsWriter(folder).save(networks, frame, episode_return)


def test_weights_survive(tmp_path):
    save_weights(tmp_path, {"a": torch.arange(3.0)}, frame=1000)
    state = load_weights(tmp_path, "cpu")
    assert state["frame"] == 1000
    assert torch.equal(state["networks"]["a"], torch.arange(3.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "weights.pt"]


@pytest.mark.parametrize("is_resumed", [False, True])
def test_the_first_of_the_best_evaluations_is_kept(tmp_path, is_resumed):
    writer, best_frames = WeightsWriter(tmp_path), []
    for frame, episode_return in enumerate([-3.0, -5.0, 2.0, 2.0, 1.0, 4.0, float("nan"), 3.0]):
        writer = WeightsWriter(tmp_path) if is_resumed else writer
        writer.save({"a": torch.tensor(float(frame))}, frame, episode_return)
        best = load_weights(tmp_path, "cpu", "best")
        assert load_weights(tmp_path, "cpu")["frame"] == frame
        assert best["networks"]["a"] == best["frame"]
        best_frames.append(best["frame"])
    assert best_frames == [0, 0, 2, 2, 2, 5, 5, 5]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:100])


def replace_by_directory(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut_short, replace_by_directory])
def test_damaged_best_weights_are_kept_and_replaced_with_a_warning(tmp_path, damage):
    save_weights(tmp_path, {}, 0, episode_return=9.0)
    damage(tmp_path / "best.pt")
    with pytest.warns(UserWarning, match=r"best.pt .*; kept as best.pt.damaged; the best .* from now on replaces it"):
        writer = WeightsWriter(tmp_path)
    writer.save({}, 100, episode_return=1.0)
    assert load_weights(tmp_path, "cpu", "best")["frame"] == 100
    assert (tmp_path / "best.pt.damaged").exists()


def test_other_names_of_weights_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="weights must be one of best, last, got 'first'"):
        load_weights(tmp_path, "cpu", "first")


def test_missing_damaged_and_foreign_weights_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"weights.pt does not exist; a run writes its weights at every evaluation"):
        load_weights(tmp_path, "cpu")
    save_weights(tmp_path, {"a": torch.arange(3.0)}, frame=0)
    path = tmp_path / "weights.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidInput, match="must hold plain tensors"):
        load_weights(tmp_path, "cpu")
    torch.save([1, 2], path)
    with pytest.raises(InvalidInput, match="format None"):
        load_weights(tmp_path, "cpu")
    torch.save({"format": 99}, path)
    with pytest.raises(InvalidInput, match="format 99"):
        load_weights(tmp_path, "cpu")
    torch.save({"format": 1, "frame": 3}, path)
    with pytest.raises(InvalidInput, match=r"weights.pt must hold episode_return, networks"):
        load_weights(tmp_path, "cpu")
    path.unlink()
    path.mkdir()
    with pytest.raises(InvalidInput, match=r"weights.pt cannot be read \(Is a directory\)"):
        load_weights(tmp_path, "cpu")


def test_no_changed_bit_goes_unseen(tmp_path):
    weights = {"a": torch.arange(200.0), "b": torch.ones(3, 3)}
    save_weights(tmp_path, weights, frame=1000)
    path = tmp_path / "weights.pt"
    data = path.read_bytes()
    refused = 0
    for position in range(0, len(data), 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        try:
            state = load_weights(tmp_path, "cpu")
        except InvalidInput:
            refused += 1
        else:  # a byte that means nothing, such as padding
            assert state["frame"] == 1000
            assert all(torch.equal(state["networks"][name], value) for name, value in weights.items())
    assert refused > 100


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"status": "running"})
    write_json(path, {"status": "finished"})
    assert path.read_text() == '{\n  "status": "finished"\n}\n'
    assert list(tmp_path.iterdir()) == [path]
