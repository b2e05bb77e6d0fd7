"""Names of variants, by the options that differ within the given runs."""

from __future__ import annotations

import pytest

from drq_sn.report.types import Departure, Preset, Variant
from drq_sn.report.variants import (
    describe_settings,
    format_short,
    group_by_protocol,
    label_variants,
    name_variants,
    once_per_seed,
    sort_variants,
)
from tests.builders import MLP2, MODERN_SN, make_run

PUBLISHED = Preset()
LAPTOP = Preset("laptop", (Departure("lr", 5e-4, 1e-4), Departure("env.image_size", 48, 84)))


def run(variant=MODERN_SN, preset=PUBLISHED, options=(("lr", 1e-4),), task="cheetah_run", **changes):
    """A run with `changes` to published values of 1e-4."""
    departures = [Departure(name.replace("__", "."), value, 1e-4) for name, value in changes.items()]
    return make_run({0: 1.0}, task, variant, departures=departures, preset=preset, options=dict(options))


def names(*runs):
    return [each.variant.label for each in name_variants(runs)]


def test_a_sweep_is_named_by_its_option_alone_and_the_published_value_is_shown():
    assert names(run(lr=3e-4), run(), run(lr=1e-3)) == ["lr=3e-4", "lr=1e-4", "lr=1e-3"]
    assert names(run(lr=3e-4), run(MLP2)) == ["modern4 + SN, lr=3e-4", "mlp2, lr=1e-4"]


def test_what_all_runs_have_in_common_is_not_named():
    assert names(run(lr=3e-4), run(MLP2, lr=3e-4)) == ["modern4 + SN", "mlp2"]
    assert names(run(tau=1, lr=3e-4), run(tau=2, lr=3e-4)) == ["tau=1", "tau=2"]


def test_options_are_as_short_as_they_are_unambiguous():
    together = [run(head__actor__num_blocks=n, head__critic__num_blocks=n) for n in (1, 2)]
    assert names(*together) == ["blocks=1", "blocks=2"]
    apart = run(head__actor__num_blocks=1, head__critic__num_blocks=2)
    assert names(*together, apart)[2] == "actor.blocks=1, critic.blocks=2"


def test_a_preset_is_one_option_and_what_differs_from_it_is_another():
    options = (("lr", 5e-4),)
    laptop = make_run(departures=LAPTOP.departures, preset=LAPTOP, options=dict(options))
    faster = make_run(departures=(Departure("lr", 1e-3, 1e-4), LAPTOP.departures[1]), preset=LAPTOP, options={})
    reset = make_run(departures=LAPTOP.departures[1:], preset=LAPTOP, options={})
    assert [each.setting for each in (laptop, faster, reset)] == [
        "preset=laptop", "preset=laptop, lr=0.001", "preset=laptop, lr=0.0001"
    ]  # fmt: skip
    assert names(laptop, make_run(options={"lr": 1e-4})) == ["preset=laptop", "preset=published"]
    assert names(laptop, faster, reset) == ["lr=5e-4", "lr=1e-3", "lr=1e-4"]


def test_a_published_value_that_depends_on_the_task_is_called_published():
    tasks = [run(options=(("n_step", n),), task=task) for n, task in ((1, "walker_run"), (3, "cheetah_run"))]
    assert names(run(n_step=5), *tasks) == ["n_step=5", "n_step=published", "n_step=published"]


def test_of_many_options_only_changed_ones_are_named_and_too_many_get_a_number():
    three = run(a=1, b=2, c=3)
    assert names(three, run(a=1), run()) == ["a=1, b=2, c=3", "a=1", "modern4 + SN"]
    assert names(run(a=1, b=2, c=3, d=4), run()) == ["settings 1", "modern4 + SN"]


def test_different_settings_never_share_a_variant():
    runs = [run(), run(a=1), run(a=1, b=2), run(MLP2, a=1), run(lr=2), run(a=1, b=2, c=3, d=4), run(a=9, b=2, c=3, d=4)]
    assert len({each.variant for each in name_variants(runs)}) == len(runs)


def test_settings_are_described_with_published_values():
    published, fast = name_variants([run(), run(lr=3e-4)])
    assert describe_settings([published, fast]) == ["lr=3e-4: lr=0.0003 (published: 0.0001)."]
    assert describe_settings([run(lr=3e-4)]) == ["all runs: lr=0.0003 (published: 0.0001)."]


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-4, "3e-4"), (0.00015, "1.5e-4"), (0.5, "0.5"), (0.01, "0.01"), (1e6, "1e6"), (0.0, "0.0"), (3, "3"),
     (None, "null"), (True, "true")],
)  # fmt: skip
def test_values_are_short(value, text):
    assert format_short(value) == text


def test_scores_are_aggregated_within_one_protocol():
    runs = [run(lr=3e-4), run(env__image_size=48), run(), run(num_eval_episodes=5, lr=3e-4)]
    assert {key: len(members) for key, members in group_by_protocol(runs).items()} == {
        "published setting": 2, "env.image_size=48": 1, "num_eval_episodes=5": 1
    }  # fmt: skip


def test_a_seed_counts_once_from_the_directory_with_most_evaluations():
    short, long, again = make_run({0: 1.0}), make_run({0: 2.0, 10: 3.0}), make_run({0: 4.0, 10: 5.0})
    other = make_run({0: 1.0}, seed=2)
    assert once_per_seed([short, long, again, other]) == ([long, other], [(short, long), (again, long)])


def test_variants_come_in_the_papers_order_then_by_name():
    names = [("simba", "none"), ("modern4", "nap"), ("modern4", "spectral"), ("mlp2", "none"), ("modern4", "none")]
    ordered = sort_variants([Variant("drq", *name) for name in names] * 2)
    assert [v.label for v in ordered] == ["mlp2", "modern4", "modern4 + SN", "modern4 + nap", "simba"]
    sizes = [Variant("drq", "mlp2", "none", f"lr={value}") for value in ("1e-3", "3e-4", "published", "10")]
    assert [v.label for v in sort_variants(sizes)] == ["lr=3e-4", "lr=1e-3", "lr=10", "lr=published"]


def test_variants_of_two_agents_are_labeled_with_the_agent():
    drq, drqv2 = make_run(), make_run(variant=Variant("drqv2", "mlp2", "none"))
    assert list(label_variants([drqv2, drq]).values()) == ["DrQ mlp2", "DrQ-v2 mlp2"]
    assert list(label_variants([drq, make_run(variant=MODERN_SN)]).values()) == ["mlp2", "modern4 + SN"]
