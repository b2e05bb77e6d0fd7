"""`drq-sn doctor`: versions, device, memory and rendering of this machine, and problems with them."""

from __future__ import annotations

import contextlib
import sys

import torch

from drq_sn.cli.config.build import build_env
from drq_sn.cli.config.command_line import HELP_FLAGS
from drq_sn.cli.config.overrides import compose_config
from drq_sn.cli.running.exit_codes import ExitCode, run_command
from drq_sn.cli.running.memory import memory_parts
from drq_sn.envs import gl, make_env
from drq_sn.output import require_written
from drq_sn.profiling.profiler import seconds_per_call
from drq_sn.runs import provenance
from drq_sn.training.limits import available_cores, available_memory, num_available_cores
from drq_sn.validation import InvalidInput

TASK, NUM_FRAMES = "cheetah_run", 20
MATCHING_PAIRS = {("1.0.30", "3.3.2"), ("1.0.31", "3.3.3"), ("1.0.44", "3.11.0"), ("1.0.50", "3.17.0")}
PUBLISHED_PIXELS_BEFORE = (3, 12)
SLOW_RENDERING_MS = 5.0


def report() -> tuple[list[str], list[str]]:
    """`name: value` lines about this machine, and one line per problem."""
    facts, problems = [], []
    for lines, troubles in (_versions(), _device(), _rendering()):
        facts += lines
        problems += troubles
    return facts, problems


def _versions() -> tuple[list[str], list[str]]:
    found = provenance.versions()
    problems = []
    pair = (found["dm_control"], found["mujoco"])
    if pair not in MATCHING_PAIRS:
        tried = ", ".join(f"{a} with {b}" for a, b in sorted(MATCHING_PAIRS))
        problems.append(f"dm_control {pair[0]} with mujoco {pair[1]} was not tried together; tried pairs: {tried}")
    if pair[1][0].isdigit() and tuple(map(int, pair[1].split(".")[:2])) >= PUBLISHED_PIXELS_BEFORE:
        problems.append(
            f"mujoco {pair[1]} draws other pixels than the published curves' (they changed at 3.12); "
            "PIXELS=published installs 3.11.0"
        )
    return [f"{name}: {version}" for name, version in found.items()], problems


def _device() -> tuple[list[str], list[str]]:
    device = provenance.select_device("auto")
    memory = available_memory(torch.device("cpu"))
    quota = f" (CPU quota; {len(available_cores())} visible)" if num_available_cores() < len(available_cores()) else ""
    facts = [
        f"device: {device.type}, {provenance.device_name(device)}",
        f"CPU cores: {num_available_cores()}{quota}",
        f"free memory: {memory / 1e9:.1f} GB",
    ]
    problems = []
    if device.type == "cpu":
        problems.append("no GPU that torch can use: train with PRESET=laptop, the published setting takes days")
    cfg = compose_config("train", ["task=synthetic_point"])  # needs no OpenGL; frames are as large as in other tasks
    with contextlib.closing(build_env(cfg)) as env:
        needed = sum(memory_parts(cfg, env, device).values())
    facts.append(f"memory of a run with default options: {needed / 1e9:.1f} GB")
    if memory < needed:
        problems.append(f"a run with default options needs {needed / 1e9:.1f} GB, more than is free")
    return facts, problems


def _rendering() -> tuple[list[str], list[str]]:
    try:
        backend = gl.select_backend()
        env = make_env(TASK)
    except InvalidInput as error:
        return ["GL backend: none"], [str(error)]
    except TimeoutError as error:
        return ["GL backend: unknown"], [str(error)]
    with contextlib.closing(env):
        env.reset()
        milliseconds = 1000 * seconds_per_call(lambda _: env.render(84, 84), NUM_FRAMES, torch.device("cpu"))
    facts = [
        f"GL backend: {backend.name}",
        f"GL renderer: {backend.renderer}",
        f"rendering: {milliseconds:.1f} ms a frame ({TASK}, 84x84, mean of {NUM_FRAMES})",
    ]
    problems = []
    if backend.is_software:
        gpu = torch.cuda.is_available()
        cure = "install its driver's EGL library, or start the container with the graphics capability"
        problems.append(f"frames are drawn in software: {'there is a GPU, so ' + cure if gpu else 'there is no GPU'}")
    elif milliseconds > SLOW_RENDERING_MS:
        problems.append(f"{milliseconds:.1f} ms a frame is slow for a GPU")
    return facts, problems


def main() -> None:
    """Print the report; exit code 2 if nothing renders, or if there are arguments."""
    if HELP_FLAGS & set(sys.argv[1:]):
        print("usage: drq-sn doctor\nPrints versions, device, memory and rendering of this machine, and problems.")
        return
    if sys.argv[1:]:
        raise InvalidInput(f"doctor takes no arguments, got {' '.join(sys.argv[1:])}")
    facts, problems = report()
    print("\n".join(facts))
    print("\n".join(f"problem: {problem}" for problem in problems) or "nothing is wrong")
    require_written()
    sys.exit(ExitCode.INVALID_INPUT if "GL backend: none" in facts else 0)


if __name__ == "__main__":
    run_command(main)
