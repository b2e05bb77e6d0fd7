"""Weight normalizers, one concept per file."""

from drq_sn.networks.normalizers.base import Layers, NamedLayers, Normalizer, Unnormalized, replace_layers
from drq_sn.networks.normalizers.nap import NormalizeAndProject
from drq_sn.networks.normalizers.spectral import Spectral
from drq_sn.networks.normalizers.spectral_schedulers import DivGrad, DivOut, MulEps
from drq_sn.networks.normalizers.weight_norm import WeightNorm

__all__ = [
    "DivGrad",
    "DivOut",
    "Layers",
    "MulEps",
    "NamedLayers",
    "NormalizeAndProject",
    "Normalizer",
    "Spectral",
    "Unnormalized",
    "WeightNorm",
    "replace_layers",
]
