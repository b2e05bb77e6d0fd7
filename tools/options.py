"""Write docs/options.md, the reference of every option, from cfg/ and its comments (`make options`; a test compares).

An option is described by the comment right above it or at the end of its line; failing that, by the `Args:` of the
class that it goes to, or by the option of the same name in another file. An option without a description is an error.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
CFG, PAGE = ROOT / "cfg", ROOT / "docs" / "options.md"
PACKAGE = "# @package "
TUNED, EXPERIMENT = "tuned", "experiment"  # groups whose files hold tasks, and experiments, instead of options
LAST = (TUNED, "preset", "agent_preset")  # groups that set options of others
ABOUT = {
    TUNED: "Settings per task, applied to the agent of the same name. Options on the command line override them.",
    "agent_preset": "Applied when agent and preset are these.",
    EXPERIMENT: "The paper's runs: `make table1`, or `drq-sn sweep experiment=table1`. `task=`, `seed=`, "
    "`num_train_frames=` and other options of a run select a part of it, or change it.",
    "launcher": "Where a sweep trains: `make sweep LAUNCHER=slurm`, or `drq-sn sweep launcher=slurm`.",
}
INTRODUCTION = """# Options

*Written by `make options` from the files in [`cfg/`](../cfg) and their comments. Change those, not this page.*

A command takes options as `name=value`, in any order: `make train TASK=walker_walk ARGS="lr=3e-4 head.width=512"`, or
`drq-sn train task=walker_walk lr=3e-4 head.width=512`. A group takes the name of one of its choices (`head=mlp2`),
which brings its own options (`head.width`). `drq-sn train --cfg job` prints the options of a run without starting it.
An unknown name is an error that suggests the nearest ones. [how-to.md](how-to.md) adds a choice.

In the tables, *value of `lr`* means that an option defaults to another one; *per task, else 3* means that the
default depends on the task (`tuned`).

## Contents
"""


class Option(NamedTuple):
    """A row of a table: name as on the command line, default, meaning ("" if undescribed), and line in the file."""

    name: str
    default: str
    meaning: str
    line: int


class Page(NamedTuple):
    """A YAML file.

    Attributes:
        path: of the file.
        about: the comment at its top.
        target: class that it builds, or None.
        base: choice of the same group whose options it changes, or None.
        groups: the groups of its `defaults`, with the choices made there.
        options: the options that it sets, in order.
    """

    path: Path
    about: str
    target: str | None
    base: str | None
    groups: list[Option]
    options: list[Option]


def read_page(path: Path, group: str | None = None) -> Page:
    """Parse a YAML file of `group`, or of a command."""
    lines = path.read_text().splitlines()
    header = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    root = yaml.compose("\n".join(lines), Loader=yaml.SafeLoader) or yaml.MappingNode("", [])
    defaults: list[yaml.Node] = next((value.value for key, value in root.value if key.value == "defaults"), [])
    names = [item.value for item in defaults if isinstance(item, yaml.ScalarNode) and item.value != "_self_"]
    groups = []
    for key, value in (item.value[0] for item in defaults if isinstance(item, yaml.MappingNode)):
        if not key.value.startswith("override "):
            meaning = comment(lines, key, value, len(lines))
            groups.append(Option(key.value.removeprefix("optional "), value.value, meaning, key.start_mark.line + 1))
    packages = [line.removeprefix(PACKAGE) for line in header if line.startswith(PACKAGE)]
    package = packages[0] if packages else group
    prefix = "" if package in (None, "_global_", EXPERIMENT) else f"{package}."
    root.value = [pair for pair in root.value if pair[0].value not in ("defaults", "hydra")]
    return Page(
        path,
        about=" ".join(line.lstrip("# ") for line in header if not line.startswith(PACKAGE)),
        target=target_of(root),
        base=names[0] if names and group else None,
        groups=groups,
        options=list(read_options(root, prefix, lines, len(header), None)),
    )


def target_of(node: yaml.MappingNode) -> str | None:
    """The class that a mapping builds."""
    return next((value.value for key, value in node.value if key.value == "_target_"), None)


def read_options(
    node: yaml.MappingNode, prefix: str, lines: list[str], first: int, target: str | None
) -> Iterator[Option]:
    """Options of a mapping and of those inside it; comments before line `first` describe the file."""
    target = target_of(node) or target
    for key, value in node.value:
        if re.fullmatch("_.*_", key.value):  # Hydra's own, such as _target_
            continue
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        meaning = comment(lines, key, value, first) or describe_argument(target, key.value)
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if meaning:
                yield Option(name, "", meaning, line)
            yield from read_options(value, f"{name}.", lines, first, target)
        else:
            yield Option(name, render(value), meaning, line)


def comment(lines: list[str], key: yaml.Node, value: yaml.Node, first: int) -> str:
    """The comment lines right above a key, none of the first `first`; else the comment at the end of its line."""
    start = key.start_mark.line
    while start > first and re.match(rf" {{{key.start_mark.column}}}#", lines[start - 1]):
        start -= 1
    if start < key.start_mark.line:
        return " ".join(line.strip("# ") for line in lines[start : key.start_mark.line])
    is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    end = (key if is_block else value).end_mark
    match = re.search(r"(?:^|\s)#\s*(.*)", lines[end.line][end.column :]) if end.line < len(lines) else None
    return match.group(1).strip() if match else ""


def render(node: yaml.Node) -> str:
    """A value as YAML on one line."""
    value = yaml.SafeLoader("").construct_document(node)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()


def describe_argument(target: str | None, name: str) -> str:
    """The entry of `name` under `Args:` in our function or class `target`, or in one of its bases."""
    if not (target or "").startswith("drq_sn."):
        return ""
    module, _, attribute = str(target).rpartition(".")
    builder = getattr(importlib.import_module(module), attribute)
    for owner in inspect.getmro(builder) if inspect.isclass(builder) else (builder,):
        section = (inspect.getdoc(owner) or "").partition("Args:\n")[2].partition("\n\n")[0]
        for names, meaning in re.findall(r"^    (\w[^:\n]*):((?:.|\n     )*)", section, re.M):
            if name in re.split(r",\s*", names):
                text = " ".join(meaning.split()).rstrip(".")
                return "" if text.startswith("see ") else text
    return ""


def load(cfg: Path) -> tuple[list[Page], dict[str, list[Page]]]:
    """The pages of the commands, train first, and of each group; meanings are shared between options of one name."""
    commands = [read_page(path) for path in sorted(cfg.glob("*.yaml"), key=lambda path: (path.stem != "train", path))]
    names = [option.name for page in commands for option in page.groups]
    folders = sorted(path.name for path in cfg.iterdir() if path.is_dir())
    order = sorted(dict.fromkeys([*(name for name in names if name in folders), *folders]), key=rank)
    groups = {name: [read_page(path, name) for path in sorted((cfg / name).glob("*.yaml"))] for name in order}
    by_priority = sorted(groups, key=lambda name: (name == EXPERIMENT, name in LAST))
    pages = [*commands[:1], *(page for name in by_priority for page in groups[name]), *commands[1:]]
    known: dict[str, str] = {}
    for option in (option for page in pages for option in page.options if option.meaning):
        known.setdefault(option.name, option.meaning)
    for options in (options for page in pages for options in (page.groups, page.options)):
        options[:] = [option._replace(meaning=option.meaning or known.get(option.name, "")) for option in options]
    return commands, groups


def rank(group: str) -> int:
    """Position of a group at the end of the page; 0 for the others."""
    return LAST.index(group) + 1 if group in LAST else 0


def find_undescribed(cfg: Path) -> list[str]:
    """File, line and name of every option without a description."""
    commands, groups = load(cfg)
    pages = [*commands, *(page for name, pages in groups.items() if name != TUNED for page in pages)]
    return [
        f"{page.path.relative_to(cfg.parent)}:{option.line}: {option.name} has no description; add a comment"
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
        yield from ["| task | sets |", "|---|---|"]
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


def show(default: str) -> str:
    """A default for a table, with references to other options in words."""
    default = default.strip("\"'") or default
    if task := re.fullmatch(r"\$\{oc\.select:tuned\.\$\{task\}\.[\w.]+,(.*)\}", default):
        return f"per task, else `{task.group(1)}`"
    if reference := re.fullmatch(r"\$\{([\w.]+)\}", default):
        return f"value of `{reference.group(1)}`"
    return f"`{default}`".replace("|", r"\|") if default else ""


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
