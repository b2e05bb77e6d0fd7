"""The least that an update can cost: operations and bytes by phase, from layer shapes alone.

`python tools/bound.py` prints a Markdown table for the published agents; docs/performance.md shows it.
Operations are those of convolutions and matrix products, two per multiply-add. Bytes are float32
tensors too large for a cache, each moved as often as no fusion can avoid: feature maps are written once and
read once per layer, again in the backward pass, with their gradients; weights are read by every product,
their gradients written once; Adam reads four arrays and writes three.
"""

from __future__ import annotations

import dataclasses

import numpy as np

FLOAT = 4
SIZE, CHANNELS, FILTERS, TRUNK, WIDTH, EXPANSION = 84, 9, 32, 50, 1024, 2


def cost(flops: float = 0.0, num_bytes: float = 0.0) -> np.ndarray:
    """Operations and bytes of a phase."""
    return np.array([flops, num_bytes])


@dataclasses.dataclass
class Linears:
    """A chain of linear layers: (in, out, spectrally normalized)."""

    layers: list[tuple[int, int, bool]]

    @property
    def num_weights(self) -> int:
        """Weights and biases."""
        return sum(i * o + o for i, o, _ in self.layers)

    @property
    def normalized_bytes(self) -> int:
        """Bytes of the spectrally normalized weights."""
        return FLOAT * sum(i * o for i, o, normalized in self.layers if normalized)

    def product(self, batch: int, first: bool = True) -> np.ndarray:
        """One pass through the layers: forward, or either half of backward; `first`: the first layer too."""
        rows = [(batch + normalized, i, o) for i, o, normalized in self.layers[0 if first else 1 :]]
        return cost(sum(2 * n * i * o for n, i, o in rows), FLOAT * sum(i * o + n * (i + o) for n, i, o in rows))


def head(name: str, in_dim: int, out_dim: int, num_blocks: int, spectral: bool) -> Linears:
    """Layers of `mlp2`, or of a modern head with `num_blocks` blocks."""
    if name == "mlp2":
        return Linears([(in_dim, WIDTH, False), (WIDTH, WIDTH, spectral), (WIDTH, out_dim, False)])
    blocks = [(WIDTH, EXPANSION * WIDTH, spectral), (EXPANSION * WIDTH, WIDTH, spectral)] * num_blocks
    return Linears([(in_dim, WIDTH, False), *blocks, (WIDTH, out_dim, False)])


def convolutions() -> tuple[list[float], float, int, int]:
    """Operations of each convolution and bytes of all maps, per image; features; weights."""
    flops, num_maps, num_weights, size, channels = [], 0, 0, SIZE, CHANNELS
    for stride in (2, 1, 1, 1):
        size = (size - 3) // stride + 1
        flops.append(2.0 * size**2 * FILTERS * channels * 9)
        num_maps += FILTERS * size**2
        num_weights += FILTERS * (channels * 9 + 1)
        channels = FILTERS
    return flops, FLOAT * num_maps, FILTERS * size**2, num_weights


def phases(agent: str, head_name: str, spectral: bool, batch: int, action_dim: int = 1) -> dict[str, np.ndarray]:
    """Cost of an update, by phase; DrQ's mean over updates with and without its actor."""
    conv, map_bytes, num_features, num_conv_weights = convolutions()
    seen = cost(sum(conv) * batch, 2 * map_bytes * batch)
    unseen = cost((2 * sum(conv) - conv[0]) * batch, 3 * map_bytes * batch)
    trunk = Linears([(num_features, TRUNK, False)])
    q = head(head_name, TRUNK + action_dim, 1, 3, spectral)
    policy = head(head_name, TRUNK, action_dim * (2 if agent == "drq" else 1), 1, spectral)
    critic = trunk.product(batch) + 2 * q.product(batch)
    actor = trunk.product(batch) + policy.product(batch)
    views, actor_share = (2, 0.5) if agent == "drq" else (1, 1.0)
    online, target = (2.5, 2) if agent == "drq" else (2, 1)  # power iterations per update

    num_critic = trunk.num_weights + 2 * q.num_weights
    num_actor = trunk.num_weights + policy.num_weights
    target_encoder = num_conv_weights if agent == "drq" else 0
    adam = cost(0, 8 * FLOAT)  # seven arrays, and the gradient once more for its norm
    through_q = 2 * q.product(batch)
    return {
        "encode, forward": views * seen,
        "encode, backward": views * unseen,
        "critic, forward and backward": views * (critic + critic + critic),
        "target": views * ((2 if agent == "drq" else 1) * seen + actor + critic),
        "actor": actor_share
        * (
            (seen if agent == "drq" else cost())
            + actor
            + critic
            + through_q
            + trunk.product(batch)
            + 2 * policy.product(batch)
        ),
        "optimizers": adam * (num_conv_weights + num_critic + actor_share * num_actor),
        "target update": cost(0, 3 * FLOAT * actor_share * (num_critic + target_encoder)),
        "power iteration": cost(0, 4 * (online + target) * q.normalized_bytes + 2 * online * policy.normalized_bytes),
    }


def main() -> None:
    """Print the table."""
    settings = [("drqv2", 256), ("drq", 512)]
    columns = [(agent, batch, name) for agent, batch in settings for name in ("mlp2", "modern4")]
    tables = [phases(agent, name, name == "modern4", batch) for agent, batch, name in columns]
    titles = [f"{agent}, {batch}, {name}{' + SN' if name == 'modern4' else ''}" for agent, batch, name in columns]
    print("| phase | " + " | ".join(titles) + " |")
    print("|---|" + "---|" * len(columns))
    for phase in tables[0]:
        print(f"| {phase} | " + " | ".join(_cell(table[phase]) for table in tables) + " |")
    print("| **all** | " + " | ".join(f"**{_cell(sum(table.values()))}**" for table in tables) + " |")


def _cell(phase: np.ndarray) -> str:
    flops, num_bytes = phase / 1e9
    return f"{flops:.1f} / {num_bytes:.2f}" if flops else f"- / {num_bytes:.2f}"


if __name__ == "__main__":
    main()
