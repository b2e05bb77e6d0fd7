"""The random shift against kornia's padding and cropping, and every other choice's contract."""

import kornia
import pytest
import torch
from hydra import compose, initialize_config_dir

from drq_sn.cli.config.build import config_dir, instantiate
from drq_sn.cli.config.overrides import group_options
from drq_sn.training import augmentations
from drq_sn.training.augmentations import RandomShift, crop_shifted

PAD = 4


def images(batch=6, size=20):
    return torch.randint(0, 256, (batch, 9, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_crop_equals_kornias():
    obs = images()
    offsets = torch.tensor([[0, 0], [8, 8], [0, 8], [4, 4], [3, 5], [7, 1]])
    padded = torch.nn.functional.pad(obs.float(), (PAD,) * 4, mode="replicate")
    row, column, size = offsets[:, 0], offsets[:, 1], obs.shape[-1] - 1
    corners = [(column, row), (column + size, row), (column + size, row + size), (column, row + size)]
    boxes = torch.stack([torch.stack(corner, dim=-1) for corner in corners], dim=1).float()
    expected = kornia.geometry.transform.crop_by_boxes(padded, boxes, (boxes[:1] - boxes[:1, :1]).expand_as(boxes))
    assert torch.allclose(crop_shifted(obs, offsets, PAD).float(), expected, atol=1e-2)


def test_the_middle_offset_changes_nothing():
    obs = images()
    assert torch.equal(crop_shifted(obs, torch.full((6, 2), PAD), PAD), obs)


@pytest.mark.parametrize("images_per_part", [1, 4])
def test_parts_that_fit_into_32_bits_are_cropped_like_the_whole_batch(monkeypatch, images_per_part):
    obs, offsets = images(), torch.tensor([[0, 0], [8, 8], [0, 8], [4, 4], [3, 5], [7, 1]])
    whole = crop_shifted(obs, offsets, PAD)
    elements_per_image = 20 * (20 + 2 * PAD) * 20 * 9
    monkeypatch.setattr(augmentations, "MAX_ELEMENTS", images_per_part * elements_per_image)
    assert torch.equal(crop_shifted(obs, offsets, PAD), whole)


def test_shifts_are_independent_uniform_and_leave_the_input_alone():
    torch.manual_seed(0)
    obs = torch.arange(225, dtype=torch.uint8).view(15, 15).expand(40_500, 1, 15, 15)  # value = 15 row + column
    before = obs.clone()
    centers = RandomShift(PAD)(obs)[:, 0, 7, 7].int()
    assert torch.equal(obs, before)
    counts = torch.bincount(centers, minlength=225).view(15, 15)[3:12, 3:12]  # of all 9 x 9 shifts
    assert int(counts.sum()) == 40_500
    assert float((counts - 500).abs().max()) < 5 * 500**0.5


def test_one_shift_serves_all_frames_of_a_stack():
    obs = images()[:, :1].expand(-1, 9, -1, -1)
    shifted = RandomShift(PAD)(obs)
    assert torch.equal(shifted, shifted[:, :1].expand(-1, 9, -1, -1))
    assert shifted.dtype == torch.uint8


with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
    CHOICES = group_options()["augmentation"]


@pytest.fixture(params=CHOICES)
def augmentation(request):
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        return instantiate(compose("train", overrides=[f"augmentation={request.param}"]).augmentation)


def test_every_augmentation_keeps_shape_and_range(augmentation):
    torch.manual_seed(0)
    obs = images(32)
    result = augmentation(obs)
    assert result.shape == obs.shape
    assert float(result.float().min()) >= 0
    assert float(result.float().max()) <= 255.01


@pytest.mark.parametrize("name", sorted(set(CHOICES) - {"none"}))
def test_every_augmentation_augments_and_differs_between_calls(name):
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        augment = instantiate(compose("train", overrides=[f"augmentation={name}"]).augmentation)
    torch.manual_seed(0)
    obs = images(64)
    first, second = augment(obs).float(), augment(obs).float()
    assert not torch.equal(first, obs.float())
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["intensity", "color_jitter", "rotation"])
def test_equal_frames_stay_equal(name):
    """A stack's frames share one random transform, or motion would be invented."""
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        augment = instantiate(compose("train", overrides=[f"augmentation={name}"]).augmentation)
    obs = images(8)[:, :3].repeat(1, 3, 1, 1)
    result = augment(obs)
    assert torch.allclose(result[:, :3], result[:, 3:6], atol=1e-3)
    assert torch.allclose(result[:, :3], result[:, 6:], atol=1e-3)
