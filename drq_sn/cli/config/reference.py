"""Options as `cfg/` describes them: names, defaults and comments, for `--help` and for docs/options.md.

An option is described by the comment right above it or at the end of its line; failing that, by the option of the same
name in another file.
"""

from __future__ import annotations

import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

PACKAGE = "# @package "
TUNED, EXPERIMENT = "tuned", "experiment"  # groups whose files hold tasks, and experiments, instead of options
LAST = (TUNED, "preset", "env_preset", "agent_preset", "augmentation_preset")  # groups that set options of others
NOT_CHOSEN = (TUNED, "env_preset", "agent_preset", "augmentation_preset")  # groups that follow from others
SCREEN = 120  # columns of help where there is no terminal
LONG = 200  # characters of a default that the reference does not show
MAX_DEFAULT = 14  # characters of a default in help


class Option(NamedTuple):
    """A row of a table: name as on the command line, default, and meaning ("" if undescribed)."""

    name: str
    default: str
    meaning: str


class Page(NamedTuple):
    """A YAML file."""

    path: Path  # of the file
    about: str  # the comment at its top
    target: str | None  # class that it builds, or None
    base: str | None  # choice of the same group whose options it changes, or None
    groups: list[Option]  # the groups of its `defaults`, with the choices made there
    options: list[Option]  # the options that it sets, in order


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
            groups.append(Option(key.value.removeprefix("optional "), value.value, meaning))
    packages = [line.removeprefix(PACKAGE) for line in header if line.startswith(PACKAGE)]
    package = packages[0] if packages else group
    prefix = "" if package in (None, "_global_", EXPERIMENT) else f"{package}."
    root.value = [pair for pair in root.value if pair[0].value not in ("defaults", "hydra")]
    return Page(
        path,
        about=" ".join(line.lstrip("# ") for line in header if not line.startswith(PACKAGE)),
        target=next((value.value for key, value in root.value if key.value == "_target_"), None),
        base=names[0] if names and group else None,
        groups=groups,
        options=list(read_options(root, prefix, lines, len(header))),
    )


def read_options(node: yaml.MappingNode, prefix: str, lines: list[str], first: int) -> Iterator[Option]:
    """Options of a mapping and of those inside it; comments before line `first` describe the file."""
    for key, value in node.value:
        if re.fullmatch("_.*_", key.value):  # Hydra's own, such as _target_
            continue
        name = f"{prefix}{key.value}"
        meaning = comment(lines, key, value, first)
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            if meaning:
                yield Option(name, "", meaning)
            yield from read_options(value, f"{name}.", lines, first)
        else:
            yield Option(name, render(value), meaning)


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


def format_help(cfg: Path, command: str, width: int | None = None, own: Sequence[Path] = ()) -> str:
    """What `drq-sn COMMAND --help` prints: its groups with their choices, and a line for each option.

    Choices in `own`, folders laid out like `cfg`, are listed too.
    """
    width = width or shutil.get_terminal_size((SCREEN, 0)).columns
    page = next(page for page in load(cfg)[0] if page.path.stem == command)
    groups = [_with_own(group, own) for group in page.groups if group.name not in NOT_CHOSEN]
    options = [option for option in page.options if not option.name.startswith("hydra.") and option.default]
    indent = max((len(option.name) for option in (*groups, *options)), default=0)
    lines = [f"usage: drq-sn {command.replace('_', '-')} [option=value ...]", *textwrap.wrap(page.about, width), ""]
    if groups:
        lines += ["groups, whose choices have options of their own (head.width):"]
        lines += [line for group in groups for line in _describe(group, indent, width)]
    lines += ["options:", *(_cut(_describe(option, indent, width - 4)) for option in options)]
    last = "--cfg job prints the options of a command line; docs/options.md describes those of every choice."
    return "\n".join([*lines, *textwrap.wrap(last, width)]) + "\n"


def _with_own(group: Option, own: Sequence[Path]) -> Option:
    choices = ", ".join(file.stem for folder in own for file in sorted((folder / group.name).glob("*.yaml")))
    return group._replace(meaning=f"{group.meaning}; yours: {choices}") if choices else group


def _describe(option: Option, indent: int, width: int) -> list[str]:
    """Name, default and meaning in as many lines as that takes."""
    default = show(option.default).replace("`", "")
    default = default if len(default) <= MAX_DEFAULT else f"{default[: MAX_DEFAULT - 3]}..."
    start = f"  {option.name:{indent}}  {default:{MAX_DEFAULT}}  "
    return textwrap.wrap(start + option.meaning, max(width, len(start) + 20), subsequent_indent=" " * len(start))


def _cut(lines: list[str]) -> str:
    return lines[0] + (" ..." if len(lines) > 1 else "")


def show(default: str) -> str:
    """A default for a table, with references to other options in words."""
    default = default.strip("\"'") or default
    if len(default) > LONG:
        return "see the file"
    if tuned := re.fullmatch(r"\$\{oc\.select:tuned\.(\$\{task\}|normalizer)\.[\w.]+,(.*)\}", default):
        return f"per {'agent' if tuned.group(1) == 'normalizer' else 'task'}, else `{tuned.group(2)}`"
    if reference := re.fullmatch(r"\$\{([\w.]+)\}", default):
        return f"value of `{reference.group(1)}`"
    return f"`{default}`".replace("|", r"\|") if default else ""
