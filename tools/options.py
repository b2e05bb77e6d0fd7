"""Write docs/options.md, the reference of every option, from cfg/ and its comments (`make options`; a test compares).

An option without a description is an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from drq_sn.cli.config.reference import EXPERIMENT, TUNED, Option, Page, load, show

ROOT = Path(__file__).resolve().parent.parent
CFG, PAGE = ROOT / "cfg", ROOT / "docs" / "options.md"
ABOUT = {
    TUNED: "Settings per task, or of normalizers, applied to the agent of the same name. Options on the command line "
    "override them.",
    "env_preset": "Applied when `env` and preset are these.",
    "agent_preset": "Applied when agent and preset are these.",
    "augmentation_preset": "Applied when augmentation and preset are these.",
    EXPERIMENT: "The papers' runs: `make table1`, or `drq-sn sweep experiment=table1`. `task=`, `seed=`, "
    "`num_train_frames=` and other options of a run select a part of it, or change it.",
    "launcher": "Where a sweep trains: `make sweep LAUNCHER=slurm`, or `drq-sn sweep launcher=slurm`.",
}
INTRODUCTION = """# Options

*Written by `make options` from the files in [`cfg/`](../cfg) and their comments. Change those, not this page.*

A command takes options as `name=value`, in any order: `make train TASK=walker_walk ARGS="lr=3e-4 head.width=512"`, or
`drq-sn train task=walker_walk lr=3e-4 head.width=512`. A group takes the name of one of its choices (`head=mlp2`),
which brings its own options (`head.width`). `drq-sn train --cfg job` prints the options of a run without starting it.
An unknown name is an error that suggests the nearest ones. [how-to.md](how-to.md) explains how to add a choice.

In the tables, *value of `lr`* means that an option defaults to another one; *per task, else 3* means that the
default depends on the task, *per agent* on the agent (`tuned`).

## Contents
"""


def find_undescribed(cfg: Path) -> list[str]:
    """File and name of every option without a description."""
    commands, groups = load(cfg)
    pages = [*commands, *(page for name, pages in groups.items() if name != TUNED for page in pages)]
    return [
        f"{page.path.relative_to(cfg.parent)}: {option.name} has no description; add a comment"
        for page in pages
        for option in [*page.groups, *page.options]
        if not option.meaning
    ]


def write_document(cfg: Path) -> str:
    """The text of docs/options.md."""
    commands, groups = load(cfg)
    links = ", ".join(link(page.path.stem, page.path.name) for page in commands)
    text = [INTRODUCTION, f"- Commands: {links}"]
    for group, pages in groups.items():
        links = ", ".join(link(page.path.stem, f"{group}={page.path.stem}") for page in pages)
        text.append(f"- {link(group, group)}: {links}")
    for page in commands:
        command = f"drq-sn {page.path.stem.replace('_', '-')}"
        text += [f"\n## {page.path.name}\n", f"`{command}`. {page.about}\n"]
        text += [*table("group", page.groups), *table("option", page.options)]
    for group, pages in groups.items():
        text += [f"\n## {group}\n", *([f"{ABOUT[group]}\n"] if group in ABOUT else [])]
        for page in pages:
            text += [f"\n### {group}={page.path.stem}\n", *describe_choice(page, group)]
    return "\n".join(text).replace("\n\n\n", "\n\n").rstrip() + "\n"


def describe_choice(page: Page, group: str) -> Iterator[str]:
    """The section of one choice of a group."""
    sentences = [f"{page.about[0].upper()}{page.about[1:].rstrip('.')}."] if page.about else []
    sentences += [f"Builds `{page.target}`."] if page.target else []
    if page.base:
        sentences.append(f"Other options as in {link(f'{group}={page.base}', f'{group}={page.base}')}.")
    elif not page.options:
        sentences.append("No options.")
    yield f"{' '.join(sentences)}\n"
    if group == TUNED and page.options:
        yield from ["| task or option | sets |", "|---|---|"]
        yield from (f"| `{option.name.partition('.')[2]}` | {show(option.default)} |" for option in page.options)
    else:
        yield from table("option", page.options)


def table(kind: str, options: list[Option]) -> list[str]:
    """A table of groups or options; nothing if there are none."""
    rows = []
    for option in options:
        name = link(f"`{option.name}`", option.name) if kind == "group" else f"`{option.name}`"
        meaning = re.sub(r"([|*<])", r"\\\1", option.meaning)
        rows.append(f"| {name} | {show(option.default)} | {meaning} |")
    return [f"| {kind} | default | meaning |", "|---|---|---|", *rows, ""] if rows else []


def link(text: str, heading: str) -> str:
    """A link to a heading of the page, by the name that GitHub gives it."""
    anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return f"[{text}](#{anchor})"


def main() -> None:
    """Write the page, or list the options without a description."""
    undescribed = find_undescribed(CFG)
    if undescribed:
        sys.exit("\n".join(undescribed))
    PAGE.write_text(write_document(CFG))


if __name__ == "__main__":
    main()
