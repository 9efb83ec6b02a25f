"""Optimizers, clipping of gradients, and schedules of the learning rate."""

from __future__ import annotations

from . import schedules as schedules
from ._adam import Adam as Adam
from ._adam import AdamW as AdamW
from ._clip import clip_grad_norm_ as clip_grad_norm_
from ._clip import clip_grad_value_ as clip_grad_value_
from ._clip import grad_norm as grad_norm
from ._groups import decay_groups as decay_groups
from ._groups import muon_groups as muon_groups
from ._lion import Lion as Lion
from ._muon import Muon as Muon
from ._optimizer import Optimizer as Optimizer
from ._scaler import GradScaler as GradScaler
from ._sgd import SGD as SGD
from .schedules import Schedule as Schedule

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "GradScaler",
    "Lion",
    "Muon",
    "Optimizer",
    "Schedule",
    "clip_grad_norm_",
    "clip_grad_value_",
    "decay_groups",
    "grad_norm",
    "muon_groups",
    "schedules",
]
