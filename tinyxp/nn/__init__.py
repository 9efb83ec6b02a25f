"""Layers, losses and the modules that hold them."""

from __future__ import annotations

from tinyxp.nn import functional as functional
from tinyxp.nn import init as init
from tinyxp.nn._activation import GELU as GELU
from tinyxp.nn._activation import ReLU as ReLU
from tinyxp.nn._activation import Sigmoid as Sigmoid
from tinyxp.nn._activation import SiLU as SiLU
from tinyxp.nn._activation import Softmax as Softmax
from tinyxp.nn._activation import Tanh as Tanh
from tinyxp.nn._attention import KVCache as KVCache
from tinyxp.nn._attention import MultiHeadAttention as MultiHeadAttention
from tinyxp.nn._container import ModuleList as ModuleList
from tinyxp.nn._container import Sequential as Sequential
from tinyxp.nn._dropout import Dropout as Dropout
from tinyxp.nn._embedding import Embedding as Embedding
from tinyxp.nn._linear import Linear as Linear
from tinyxp.nn._loss import CrossEntropyLoss as CrossEntropyLoss
from tinyxp.nn._loss import MSELoss as MSELoss
from tinyxp.nn._mlp import MLP as MLP
from tinyxp.nn._module import Module as Module
from tinyxp.nn._module import functional_call as functional_call
from tinyxp.nn._norm import LayerNorm as LayerNorm
from tinyxp.nn._norm import RMSNorm as RMSNorm
from tinyxp.nn._parameter import Parameter as Parameter
from tinyxp.nn._transformer import TransformerBlock as TransformerBlock

__all__ = [
    "GELU",
    "MLP",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "KVCache",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerBlock",
    "functional",
    "functional_call",
    "init",
]
