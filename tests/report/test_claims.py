"""The ledger of claims: its page is what the results say, and its tables are right."""

from __future__ import annotations

import shlex
import subprocess
import sys

import claims
import pytest
import yaml

from drq_sn.report.claims import Claim, Paper, Verdict, evidence_table, parse_ledger, render
from drq_sn.report.table_formats import NO_VALUE
from drq_sn.runs.status import Status
from tests.builders import MLP2, MODERN_SN, ROOT, make_log, make_run

CLAIM = {"name": "B1", "place": "Table 1", "text": "It learns.", "theirs": "1000", "command": "make table1",
         "verdict": "open", "reason": "No run."}  # fmt: skip
RUNS = [
    make_run({0: 1.0, 20_000: 100.0}, variant=MODERN_SN),
    make_run({0: 3.0, 20_000: 200.0}, variant=MODERN_SN, seed=2),
    make_run({0: 5.0}, variant=MLP2, status=Status.INTERRUPTED),
]


def ledger(**changes):
    return [{"title": "A paper", "claims": [CLAIM | changes]}]


def test_the_page_is_what_the_results_say():
    same = claims.PAGE.read_text() == claims.build_page()
    assert same, "docs/claims.md is not what results/ says: run `make figures` and commit it"


def test_commands_of_the_ledger_are_accepted():
    for paper in parse_ledger(yaml.safe_load((ROOT / "results" / "claims.yaml").read_text())):
        for claim in paper.claims:
            program, target, *words = shlex.split(claim.command)
            names = [word.partition("=")[0] for word in words]
            if program == "make":
                check = [sys.executable, "tools/make_target.py", "check", target, *names]
                assert subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=True).stdout == ""
            else:
                assert (program, target, names) == ("drq-sn", "sweep", ["experiment"])
                assert (ROOT / "cfg" / "experiment" / f"{words[0].partition('=')[2]}.yaml").exists()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (ledger(verdict="true"), ValueError, "'true' is not a valid Verdict"),
        (ledger(verdict="confirmed"), ValueError, "B1: the verdict confirmed needs evidence"),
        (ledger() * 2, ValueError, "two claims named B1"),
        (ledger(source="Table 1"), TypeError, "source"),
    ],
)
def test_a_wrong_ledger_is_refused(content, error, message):
    with pytest.raises(error, match=message):
        parse_ledger(content)


def test_returns_by_variant_with_seeds_and_hours(tmp_path):
    asked = []
    table = evidence_table({"runs": ["results/a", "results/b"]}, tmp_path, lambda paths: asked.extend(paths) or RUNS)
    assert asked == [str(tmp_path / "results/a"), str(tmp_path / "results/b")]
    plain, normalized = table.rows
    assert plain == ["cheetah_run", "DrQ", "mlp2", "0", "5.0 (1 seed)", "0 (unfinished)", plain[-1]]
    assert normalized[2:6] == ["modern4 + SN", "20 000", "150.0 ± 50.0 (70.7, 2)", "20 000"]


def test_returns_at_given_frames(tmp_path):
    table = evidence_table({"runs": ["x"], "frames": [0, 20_000]}, tmp_path, lambda _: RUNS[:2])
    assert [row[3:5] for row in table.rows] == [
        ["0", "2.0 ± 1.0 (1.4, 2)"],
        ["20 000", "150.0 ± 50.0 (70.7, 2)"],
    ]


def test_largest_and_last_values_of_a_log(tmp_path):
    train = make_log(frame=[1, 2, 3, 4], loss=["nan", 3.0, 7.5, 2.0])
    runs = [make_run({0: 1.0}, train=train), make_run({0: 1.0}, seed=2)]
    table = evidence_table({"runs": ["x"], "columns": ["loss"]}, tmp_path, lambda _: runs)
    assert table.rows[0][-1] == f"7.5, 2; {NO_VALUE}"


def test_means_of_a_csv_file(tmp_path):
    (tmp_path / "x.csv").write_text("norm,depth,grad\nnone,1,1\nnone,1,2\nnone,3,8\nnap,1,9\n")
    item = {"csv": "x.csv", "by": ["norm", "depth"], "columns": ["grad"], "where": {"norm": ["none"]}}
    assert evidence_table(item, tmp_path, None).rows == [["none", "1", "1.5", "2"], ["none", "3", "8", "1"]]


def test_evidence_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="evidence must have runs, csv or profile, got video"):
        evidence_table({"video": "x"}, tmp_path, None)


def test_a_page_counts_verdicts_and_says_what_is_missing(tmp_path):
    evidence = ({"runs": ["x"], "note": "one seed"},)
    paper = Paper("A paper", [
        Claim(**CLAIM | {"verdict": Verdict.OPEN}),
        Claim(**CLAIM | {"name": "B2", "verdict": Verdict.CONFIRMED, "evidence": evidence}),
    ])  # fmt: skip
    page = render([paper], tmp_path, lambda _: RUNS, "# Claims")
    assert "2 claims: 1 confirmed, 0 contradicted, 1 open." in page
    first, second = page.partition("### B1")[2].split("### B2")
    assert "Ours: no runs yet." in first
    assert "Ours, one seed:" in second
    assert "150.0 ± 50.0" in second
