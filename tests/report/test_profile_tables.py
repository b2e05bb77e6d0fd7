"""Tables of profiles against values computed by hand, and Table 3."""

from __future__ import annotations

import json

import pytest

from drq_sn.report.profile_tables import FIELDS, find_profiles, table3, table_rows, write_profile
from drq_sn.validation import InvalidInput
from tests.builders import DASH, ROOT, read_csv

PAPER = {"mlp2": {"training_time_ms": 100.0}, "mlp4": {"training_time_ms": 110.0}}


def details(head, normalizer, megabytes):
    return {
        "head": head,
        "normalizer": normalizer,
        "round": 0,
        "acting_memory": megabytes * 1e6,
        "training_memory": 2e9,
        "flops_per_update": 1e9,
        "phase_seconds": {"encode": 0.001, "critic": 0.002},
    }


def sample(head, normalizer, number, milliseconds):
    times = {"training_seconds": milliseconds / 1e3, "acting_seconds": 0.001, "matmul_flops_per_second": 1e12}
    return {"head": head, "normalizer": normalizer, "round": number, **times}


MEASUREMENTS = [
    details("mlp2", "none", 50),
    details("mlp4", "none", 90),
    details("mlp4", "spectral", 91),
    sample("mlp2", "none", 1, 10),
    sample("mlp4", "none", 1, 30),
    sample("mlp4", "spectral", 1, 33),
    sample("mlp2", "none", 2, 20),
    sample("mlp4", "none", 2, 30),
    {"head": "mlp4", "normalizer": "spectral", "round": 2, "error": "out of memory"},
]


def profile_content(measurements=MEASUREMENTS, batch_size=512, options=()):
    settings = {"batch_size": batch_size, "options": options}
    return {"agent": "drq", "machine": {"device": "a GPU"}, "settings": settings, "measurements": measurements}


def write(folder, **content):
    folder.mkdir()
    (folder / "profile.json").write_text(json.dumps(profile_content(**content)))


def test_means_ratios_and_the_papers():
    mlp2, mlp4, spectral = table_rows(MEASUREMENTS, PAPER)
    assert (mlp2["training_time_ms"], mlp2["num_rounds"]) == (15, 2)
    assert mlp2["training_time_ms_sd"] == pytest.approx(7.0710678)
    assert mlp4["training_time_ms_ratio"] == 2
    assert mlp4["training_time_ms_ratio_paper"] == pytest.approx(1.1)
    assert spectral["training_time_ms_ratio_plain"] == pytest.approx(1.1)
    assert spectral["training_time_ms_paper"] is None
    assert (spectral["num_rounds"], spectral["error"]) == (1, "out of memory")
    assert (mlp4["acting_memory_mb"], mlp4["training_memory_gb"]) == (90, 2)
    assert mlp2["share_of_matmul"] == pytest.approx((1e9 / 0.010 / 1e12 + 1e9 / 0.020 / 1e12) / 2)


def test_details_alone_are_a_row_without_times(tmp_path):
    (row,) = table_rows(MEASUREMENTS[1:2], PAPER)
    assert (row["num_rounds"], row["training_time_ms"], row["share_of_matmul"]) == (0, None, None)
    assert (row["acting_memory_mb"], row["acting_memory_mb_ratio"]) == (90, None)  # without mlp2 there is none to it
    assert "| mlp4 |       none |" in write_profile(tmp_path, profile_content(MEASUREMENTS[1:2]))


def test_a_profile_is_written_whole(tmp_path):
    text = write_profile(tmp_path, profile_content())
    assert "mlp4 spectral: failed: out of memory" in text
    assert "| mlp4 |       none |                  30.00 ± 0.00 |   104 |      2 |    1.06 |      1 |" in text
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "phases.csv", "table.txt"}
    assert [row["training_time_ms"] for row in read_csv(tmp_path / "table.csv")] == ["15", "30", "33"]
    assert [row["critic"] for row in read_csv(tmp_path / "phases.csv")] == ["0.002"] * 3


def test_a_published_profile_is_still_read(tmp_path):
    (path,) = ROOT.glob("results/profile/*/*/profile.json")
    write_profile(tmp_path, json.loads(path.read_text()))
    published, written = read_csv(path.with_name("table.csv")), read_csv(tmp_path / "table.csv")
    for column in ("training_memory_gb", "acting_memory_mb", "training_time_ms_ratio", "share_of_matmul"):
        assert [float(row[column]) for row in written] == [pytest.approx(float(row[column])) for row in published]


def test_table_3_has_ours_beside_the_papers(tmp_path):
    write(tmp_path / "a")
    (profile,) = find_profiles([str(tmp_path), str(tmp_path / "nowhere")])
    table = table3(profile, "table3")
    assert table.rows[0][2:6] == ["2.00", "4.05", "50.00", "50.16 ± 0.00"]
    assert table.rows[0][6:] == ["15.00 ± 7.07", "98.14 ± 0.15", "1.00 ± 0.00", "1.19 ± 0.09"]
    assert table.rows[4][:2] == ["mlp4", "spectral"]
    assert table.rows[4][7] == DASH  # the paper has none
    row = next(row for row in table.records if row["metric"] == "training_time_ms")
    assert row["sd"] == pytest.approx(5 * 2**0.5)
    assert (row["mean"], row["n"], row["paper"], row["device"]) == (pytest.approx(15), 2, 98.14, "a GPU")
    assert set(row) == set(FIELDS)


def test_the_papers_setting_comes_first_and_others_say_so(tmp_path):
    write(tmp_path / "a", batch_size=64)
    write(tmp_path / "b", options=["num_rounds=2", "heads=[mlp2]"])
    write(tmp_path / "c", options=["head.width=64"])
    first, second, third = find_profiles([str(tmp_path), str(tmp_path / "a")])
    assert (first.batch_size, second.batch_size, third.changes) == (512, 64, ["head.width=64"])
    assert any("Not the paper's setting" in note for note in table3(third, "t").notes)
    assert not any("Not the paper's setting" in note for note in table3(first, "t").notes)
    assert any("Not the paper's setting" in note for note in table3(second, "t").notes)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"agent": "drq"}', '{"measurements": [{}]}', json.dumps(profile_content(options=[1]))]
)
def test_a_damaged_profile_is_named(tmp_path, text):
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"profile\.json is not a profile"):
        find_profiles([str(tmp_path)])
