"""Writes docs/options.md, the reference of every option, from cfg/ and the comments there.

`python tools/options.py` writes it, and a test compares. An option's meaning is the
comment at its line's end or right above it; failing that, what the class that it goes to says of it under `Args:`, or
what another file says of the option of the same name. An option without any is refused.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
CFG, PAGE = ROOT / "cfg", ROOT / "docs" / "options.md"
FIRST = "train"  # the command that comes first, and whose options others take too
PER_TASK = "tuned"  # its files' options are tasks, and what they set is described elsewhere
EXPERIMENT = "experiment"  # its files hold data, not options of their own
PACKAGE = "# @package "
ABOUT = {
    PER_TASK: "What depends on the task: applied by itself, for the agent of the same name. What the command line sets wins.",
    "agent_preset": "Applied by itself where agent and preset are these.",
    EXPERIMENT: "`make table1` and its kin, or `experiment=` of `sweep`, which takes the whole by its name. "
    "`task=`, `seed=`, `num_train_frames=` and the other options of a run choose a part of it, or change it.",
    "launcher": "Where `sweep` trains: `LAUNCHER=`, or `launcher=`.",
}
LAST = ("preset", "agent_preset")  # groups that set what others describe
INTRODUCTION = """# Options

*Written by `make options` from the files in [`cfg/`](../cfg) and their comments; a test compares. Change those, not this page.*

A command takes options as `name=value`, in any order: `make train TASK=walker_walk ARGS="lr=3e-4 head.width=512"`, or
`python -m drq_sn.cli.train task=walker_walk lr=3e-4 head.width=512`. A group takes the name of one of its choices (`head=mlp2`),
and brings that choice's own options with it (`head.width`). `python -m drq_sn.cli.train --cfg job` prints what a run would use.
An unknown name is refused, with the nearest that exist. How to add a choice is in [how-to.md](how-to.md).

In the tables, *lr's* stands for the value of another option, here `lr`; *the task's* for what `tuned` has for a task, or else
the number given.
"""


class Option(NamedTuple):
    """One line of a table.

    Attributes:
        name: as on the command line.
        default: its value as text.
        meaning: None where nothing says what it is.
        line: where it stands in its file, from 1 on.
    """

    name: str
    default: str
    meaning: str | None
    line: int


class Page(NamedTuple):
    """One YAML file.

    Attributes:
        path: of the file.
        about: the comment that it begins with.
        target: class that it builds, or None.
        groups: choices that it makes among groups, from `defaults`.
        options: in its order.
        base: the choice of the same group whose options it changes, or None.
    """

    path: Path
    about: str
    target: str | None
    groups: list[Option]
    options: list[Option]
    base: str | None


def read(path: Path, group: str | None = None) -> Page:
    """What a YAML file holds; the names of a choice's options begin with its group, or the package that it names."""
    text = path.read_text()
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    package = (
        text.removeprefix(PACKAGE).split()[0] if text.startswith(PACKAGE) else (None if group == EXPERIMENT else group)
    )
    prefix = f"{package}." if package and package != "_global_" else ""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    header = _header(lines)
    groups = [option for key, value in pairs if key.value == "defaults" for option in _groups(value, lines)]
    own = [pair for pair in pairs if pair[0].value not in ("defaults", "hydra")]
    options = [option for pair in own for option in _options(pair, prefix, lines, len(header), None)]
    about = " ".join(line.lstrip("# ") for line in header if not line.startswith(PACKAGE))
    target = next((value.value for key, value in pairs if key.value == "_target_"), None)
    if target:
        options = [
            o if o.meaning else o._replace(meaning=argument(target, o.name.removeprefix(prefix))) for o in options
        ]
    return Page(path, about, target, groups, options, _base(pairs))


def _base(pairs: list[Any]) -> str | None:
    entries = [entry for key, value in pairs if key.value == "defaults" for entry in value.value]
    names = [entry.value for entry in entries if isinstance(entry, yaml.ScalarNode)]
    return next((name for name in names if name != "_self_"), None)


def _header(lines: list[str]) -> list[str]:
    """The comment lines that a file begins with."""
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:count]


def _groups(node: yaml.Node, lines: list[str]) -> Iterator[Option]:
    for item in node.value:
        if isinstance(item, yaml.MappingNode):
            ((key, value),) = item.value
            name = key.value.removeprefix("optional ")
            if not name.startswith("override "):
                yield Option(name, value.value, _after(lines, value) or None, key.start_mark.line + 1)


def _options(pair: tuple[Any, Any], prefix: str, lines: list[str], start: int, target: str | None) -> Iterator[Option]:
    """The option of a key, and those inside it where it is a part of its own."""
    key, value = pair
    name = f"{prefix}{key.value}"
    if key.value.startswith("_") and key.value.endswith("_"):  # Hydra's own words, such as _target_
        return
    inside = isinstance(value, yaml.MappingNode) and _is_block(value)
    line, where = key.start_mark.line, key if _is_block(value) else value
    meaning = _above(lines, line, start) or _after(lines, where) or (argument(target, key.value) if target else None)
    if not inside:
        yield Option(name, _written(value, lines), meaning, line + 1)
        return
    if meaning:
        yield Option(name, "", meaning, line + 1)
    own = next((v.value for k, v in value.value if k.value == "_target_"), None)
    for child in value.value:
        yield from _options(child, f"{name}.", lines, start, own)


def _after(lines: list[str], node: yaml.Node) -> str:
    """The comment that follows a key, or a value on one line, on its last line."""
    end = node.end_mark
    found = re.search(r"(?:^|\s)#\s*(.*)$", lines[end.line][end.column :]) if end.line < len(lines) else None
    return found.group(1).strip() if found else ""


def _is_block(node: yaml.Node) -> bool:
    """Whether a value is a list or mapping with lines of its own."""
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _above(lines: list[str], number: int, start: int) -> str:
    """The comment lines right above line `number`, which are indented as it is; none of the file's first `start` lines."""
    indent, found = re.match(r" *", lines[number]).group(), []  # type: ignore[union-attr]
    while number > start and lines[number - 1].startswith(f"{indent}#"):
        number -= 1
        found.insert(0, lines[number].strip("# "))
    return " ".join(found)


def _written(node: yaml.Node, lines: list[str]) -> str:
    """A value as it stands in the file, on one line."""
    if _is_block(node):
        value = yaml.SafeLoader("").construct_document(node)
        return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).strip()
    start, end = node.start_mark, node.end_mark
    text = lines[start.line : end.line + 1]
    text[-1] = text[-1][: end.column]
    text[0] = text[0][start.column :]
    return re.sub(r"^&\w+ ", "", " ".join(part.strip() for part in text)).strip()


def argument(target: str, name: str) -> str | None:
    """What `Args:` of our class `target`, or of a class that it extends, says of argument `name`."""
    if not target.startswith("drq_sn."):
        return None
    module, _, attribute = target.rpartition(".")
    for owner in inspect.getmro(getattr(importlib.import_module(module), attribute)):
        entries = re.split(r"\n    (?=\w)", (inspect.getdoc(owner) or "").partition("Args:\n")[2].partition("\n\n")[0])
        for entry in entries:
            names, _, meaning = entry.partition(":")
            if name in re.split(r",\s*", names.strip()):
                return None if meaning.strip().startswith("see ") else " ".join(meaning.split()).rstrip(".")
    return None


def pages(cfg: Path) -> tuple[list[Page], dict[str, list[Page]]]:
    """The commands' files, train's first, and the choices of every group, in the order that they are met in."""
    commands = [read(path) for path in sorted(cfg.glob("*.yaml"), key=lambda path: (path.stem != FIRST, path.stem))]
    named = [option.name for page in commands for option in page.groups]
    folders = [folder.name for folder in sorted(cfg.iterdir()) if folder.is_dir()]
    order = sorted(
        dict.fromkeys([name for name in named if name in folders] + folders), key=lambda name: name in (PER_TASK, *LAST)
    )
    return commands, {name: [read(path, name) for path in sorted((cfg / name).glob("*.yaml"))] for name in order}


def described(commands: list[Page], groups: dict[str, list[Page]]) -> dict[str, str]:
    """Option -> its meaning: train's, a group's, a preset's, or another command's."""
    order = sorted(groups, key=lambda group: (group == EXPERIMENT, group in LAST))
    every = [*commands[:1], *(page for group in order for page in groups[group]), *commands[1:]]
    found: dict[str, str] = {}
    for option in (option for page in every for option in page.options if option.meaning):
        found.setdefault(option.name, option.meaning or "")
    return found


def missing(cfg: Path) -> list[str]:
    """Where options stand that nothing describes."""
    commands, groups = pages(cfg)
    known = described(commands, groups)
    every = [*commands, *(page for group, choices in groups.items() if group != PER_TASK for page in choices)]
    return [
        f"{page.path.relative_to(cfg.parent)}:{option.line}: {option.name} has no description; a comment at the line's end is one"
        for page in every
        for option in [*page.groups, *page.options]
        if not (option.meaning or known.get(option.name))
    ]


def document(cfg: Path) -> str:
    """The whole page."""
    commands, groups = pages(cfg)
    known = described(commands, groups)
    text = [INTRODUCTION, *_contents(commands, groups)]
    for page in commands:
        text += [f"\n## {page.path.stem}.yaml\n", f"`python -m drq_sn.cli.{page.path.stem}`. {page.about}\n"]
        text += _table(page.groups, known, groups, "group") if page.groups else []
        text += _table(page.options, known, groups, "option")
    for group, choices in groups.items():
        text += [f"\n## {group}\n", *([f"{ABOUT[group]}\n"] if group in ABOUT else [])]
        for page in choices:
            text += [f"\n### {group}={page.path.stem}\n", *_choice(page, known, groups, group)]
    return "\n".join(text).replace("\n\n\n", "\n\n") + "\n"


def _contents(commands: list[Page], groups: dict[str, list[Page]]) -> list[str]:
    links = [f"[{page.path.stem}](#{anchor(f'{page.path.stem}.yaml')})" for page in commands]
    text = ["## Contents\n", f"- Commands: {', '.join(links)}"]
    for group, choices in groups.items():
        links = [f"[{page.path.stem}](#{anchor(f'{group}={page.path.stem}')})" for page in choices]
        text.append(f"- [{group}](#{anchor(group)}): {', '.join(links)}")
    return text


def _choice(page: Page, known: dict[str, str], groups: dict[str, list[Page]], group: str) -> list[str]:
    about = [f"{page.about[0].upper()}{page.about[1:].rstrip('.')}."] if page.about else []
    if page.target:
        about.append(f"Builds `{page.target}`.")
    text = [" ".join(about) + "\n"] if about else []
    if group == PER_TASK:
        rows = [f"| `{option.name.removeprefix(f'{group}.')}` | {_shown(option.default)} |" for option in page.options]
        return [*text, *(["| task | sets |", "|---|---|", *rows] if rows else ["Nothing.\n"])]
    table = _table(page.options, known, groups, "option") if page.options else []
    if page.base:
        base = f"{group}={page.base}"
        return [*text, f"{'Other options' if table else 'Options'} as in [{base}](#{anchor(base)}).\n", *table]
    return text + (table or ["No options.\n"])


def _table(options: list[Option], known: dict[str, str], groups: dict[str, list[Page]], kind: str) -> list[str]:
    rows = [f"| {kind} | default | meaning |", "|---|---|---|"]
    for option in options:
        name = (
            f"[`{option.name}`](#{anchor(option.name)})"
            if kind == "group" and option.name in groups
            else f"`{option.name}`"
        )
        meaning = option.meaning or known.get(option.name, "")
        rows.append(f"| {name} | {_shown(option.default)} | {_escaped(meaning)} |")
    return [*rows, ""]


def _shown(default: str) -> str:
    """A default as the tables have it: references to other options in words."""
    default = default.strip("\"'") or default
    task = re.fullmatch(r"\$\{oc\.select:tuned\.\$\{task\}\.[\w.]+,(.*)\}", default)
    if task:
        return f"the task's, or `{task.group(1)}`"
    reference = re.fullmatch(r"\$\{([\w.]+)\}", default)
    if reference:
        return f"`{reference.group(1)}`'s"
    return f"`{default}`".replace("|", r"\|") if default else ""


def _escaped(text: str) -> str:
    return re.sub(r"([|*<])", r"\\\1", text)


def anchor(heading: str) -> str:
    """The name under which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def main() -> None:
    """Write the page, or complain."""
    undescribed = missing(CFG)
    if undescribed:
        sys.exit("\n".join(undescribed))
    PAGE.write_text(document(CFG))


if __name__ == "__main__":
    main()
