"""Whole models."""

from __future__ import annotations

from tinyxp.models._sampling import Sampler as Sampler
from tinyxp.models.gpt import GPT as GPT

__all__ = ["GPT", "Sampler"]
