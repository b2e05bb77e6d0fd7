"""The reference of options says what cfg/ says, and every option that a run has stands in it."""

from __future__ import annotations

import re

import options
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from drq_sn.cli.config.build import config_dir
from drq_sn.cli.config.overrides import INTERNAL_GROUPS
from drq_sn.cli.config.reference import read_page
from tests.builders import markdown_headings


def leaves(cfg, prefix=""):
    for key in cfg:
        if str(key).startswith("_"):
            continue
        if not OmegaConf.is_interpolation(cfg, key) and OmegaConf.is_dict(cfg[key]):
            yield from leaves(cfg[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_option_has_a_description():
    assert options.find_undescribed(options.CFG) == []


def test_the_page_is_what_the_configuration_says():
    same = options.PAGE.read_text() == options.write_document(options.CFG)
    assert same, "docs/options.md is not what cfg/ says: run `make options` and commit it"


def test_every_option_of_every_choice_stands_on_the_page():
    """Hydra and OmegaConf, which know nothing of the generator, say what options there are."""
    page = options.PAGE.read_text()
    rows = set(re.findall(r"^\| `([\w.]+)` \|", page, re.M))
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        runs = [
            compose("train", words) for words in ([], ["agent=drq", "head=mlp2", "normalizer=none", "preset=laptop"])
        ]
    for cfg in runs:
        assert {name for name in leaves(cfg) if name.split(".")[0] not in INTERNAL_GROUPS} <= rows
    for path in config_dir().glob("*/*.yaml"):
        group, text = path.parent.name, path.read_text()
        assert f"\n### {group}={path.stem}\n" in page
        if group not in ("tuned", "experiment") and "@package" not in text:
            own = [f"{group}.{name}" for name in leaves(OmegaConf.create(text)) if name != "defaults"]
            # a mapping on one line is one option
            assert all(name in rows or name.rpartition(".")[0] in rows for name in own), path


def test_links_of_the_contents_lead_somewhere():
    page = options.PAGE.read_text()
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert len(links) > 40
    assert set(links) <= markdown_headings(page)


YAML = """# @package _global_
# What the file
# is about.
first: 1   # at the end
# right above
second: "a # b"   # not the string's
part:      # the part's own
  inner: ${first}   # inside
  list:   # of words
    - a
    - b
  flow: {a: [1, 2], b: x}   # after a flow
bare: null
hydra:
  run: x
"""


def test_comments_are_taken_from_where_they_stand(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(YAML)
    page = read_page(path, "group")
    assert page.about == "What the file is about."
    assert [tuple(option) for option in page.options] == [
        ("first", "1", "at the end"),
        ("second", "'a # b'", "right above"),
        ("part", "", "the part's own"),
        ("part.inner", "${first}", "inside"),
        ("part.list", "[a, b]", "of words"),
        ("part.flow", "{a: [1, 2], b: x}", "after a flow"),
        ("bare", "null", ""),
    ]


def test_an_option_without_description_is_refused_by_name(tmp_path):
    cfg = tmp_path / "cfg"
    (cfg / "head").mkdir(parents=True)
    (cfg / "train.yaml").write_text("defaults:\n  - head: mine   # the head\nlr: 1   # learning rate\nbare: 2\n")
    (cfg / "head" / "mine.yaml").write_text("# A head.\nlr: 2\nwidth: 3\n")
    assert [line.split(" has")[0] for line in options.find_undescribed(cfg)] == [
        "cfg/train.yaml: bare",
        "cfg/head/mine.yaml: head.lr",
        "cfg/head/mine.yaml: head.width",
    ]
    (cfg / "head" / "mine.yaml").write_text("# @package _global_\n# A head.\nlr: 2\n")  # now it is train's own option
    assert len(options.find_undescribed(cfg)) == 1


@pytest.mark.parametrize(
    ("default", "shown"),
    [
        ("${lr}", "value of `lr`"),
        ("${oc.select:tuned.${task}.n_step,3}", "per task, else `3`"),
        ("a|b", r"`a\|b`"),
        ('""', '`""`'),
    ],
)
def test_references_are_put_into_words(default, shown):
    assert options.show(default) == shown
