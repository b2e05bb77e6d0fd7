"""Table 3 from profiles."""

from __future__ import annotations

import json

import pytest

from drq_sn.report.table3 import FIELDS, find_profiles, table3
from drq_sn.validation import InvalidInput
from tests.builders import DASH


def measurement(head, run, milliseconds, normalizer="none"):
    memory = {"training_memory": {"allocated_bytes": 2_000_000_000}, "acting_memory": {"allocated_bytes": 50_000_000}}
    seconds = {"training_seconds": milliseconds / 1000, "acting_seconds": 0.001}
    return {"head": head, "normalizer": normalizer, "run": run, **memory, **seconds}


def write(folder, *measurements, batch_size=512):
    folder.mkdir(parents=True)
    about = {"agent": "drq", "machine": {"device": "a GPU"}, "settings": {"batch_size": batch_size}}
    (folder / "profile.json").write_text(json.dumps({**about, "measurements": measurements}))


def test_the_papers_heads_stand_there_without_a_profile():
    table, rows = table3(None, "table3")
    assert [row[0] for row in table.rows] == ["mlp2", "mlp4", "modern2", "modern4"]
    assert table.rows[3][2:] == [DASH, "4.73", DASH, "247.04 ± 0.00", DASH, "125.21 ± 0.10", DASH, "1.35 ± 0.02"]
    assert len(rows) == 4 * 4
    assert {row["n"] for row in rows} == {0}


def test_ours_beside_the_papers(tmp_path):
    write(
        tmp_path / "a", measurement("mlp2", 1, 90), measurement("mlp2", 2, 110), measurement("mlp2", 1, 50, "spectral")
    )
    (profile,) = find_profiles([str(tmp_path), str(tmp_path / "nowhere")])
    table, rows = table3(profile, "table3")
    assert table.rows[0][2:6] == ["2.00 ± 0.00", "4.05", "50.00 ± 0.00", "50.16 ± 0.00"]
    assert table.rows[0][6:] == ["100.00 ± 14.14", "98.14 ± 0.15", "1.00 ± 0.00", "1.19 ± 0.09"]
    assert table.rows[4][:2] == ["mlp2", "spectral"]
    assert table.rows[4][7] == DASH  # the paper has none
    row = next(row for row in rows if row["metric"] == "training_time_ms")
    assert row["sd"] == pytest.approx(10 * 2**0.5)
    assert (row["mean"], row["n"], row["paper"], row["device"]) == (pytest.approx(100), 2, 98.14, "a GPU")
    assert set(row) == set(FIELDS)


def test_the_papers_setting_comes_first_and_others_say_so(tmp_path):
    write(tmp_path / "a", measurement("mlp2", 1, 90), batch_size=64)
    write(tmp_path / "b", measurement("mlp2", 1, 90))
    first, second = find_profiles([str(tmp_path), str(tmp_path / "a")])
    assert (first.batch_size, second.batch_size) == (512, 64)
    assert not any("Not the paper's setting" in note for note in table3(first, "t")[0].notes)
    assert any("Not the paper's setting" in note for note in table3(second, "t")[0].notes)


@pytest.mark.parametrize("text", ["{", "[]", '{"agent": "drq"}', '{"measurements": [{}]}'])
def test_a_damaged_profile_is_named(tmp_path, text):
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"profile\.json is not a profile"):
        find_profiles([str(tmp_path)])
