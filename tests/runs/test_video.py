"""Videos of episodes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from drq_sn.runs.video import VideoRecorder, playback_rate


class Env:
    def render(self, height, width):
        return np.zeros((height, width, 3), np.uint8)


def test_videos_play_in_simulated_time():
    env = SimpleNamespace(control_timestep=lambda: 0.02, num_repeats=2)
    assert playback_rate(env) == 25
    assert playback_rate(Env()) == 30


def test_without_an_ffmpeg_there_is_a_warning_and_no_video(tmp_path, monkeypatch):
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setattr("imageio_ffmpeg._utils._get_ffmpeg_exe", lambda: None)
    with VideoRecorder(tmp_path / "a.mp4", 30.0) as record:
        with pytest.warns(UserWarning, match="encoder failed"):
            record(Env())
        record(Env())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_costs_the_video_only(tmp_path):
    (tmp_path / "video").write_text("")
    with pytest.warns(UserWarning, match="no video"), VideoRecorder(tmp_path / "video" / "a.mp4", 30.0) as record:
        record(Env())
    assert (tmp_path / "video").read_text() == ""


def test_a_name_that_is_taken_costs_the_video_only(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.warns(UserWarning, match="no video"), VideoRecorder(tmp_path / "a.mp4", 30.0) as record:
        record(Env())
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]
