"""Weight normalizers, one concept a file."""

from drq_sn.networks.normalizers.base import Found, Layers, Normalizer, Unnormalized, replaced
from drq_sn.networks.normalizers.nap import NormalizeAndProject
from drq_sn.networks.normalizers.spectral import Spectral
from drq_sn.networks.normalizers.spectral_schedulers import DivGrad, DivOut, MulEps
from drq_sn.networks.normalizers.weight_norm import WeightNorm

__all__ = [
    "DivGrad",
    "DivOut",
    "Found",
    "Layers",
    "MulEps",
    "NormalizeAndProject",
    "Normalizer",
    "Spectral",
    "Unnormalized",
    "WeightNorm",
    "replaced",
]
