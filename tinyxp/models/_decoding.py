"""A GPT applied to one more position, with keys and values in caches, on the library's own arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tinyxp
from tinyxp._core import MODE, fresh, wrap
from tinyxp._decode import BlockArrays
from tinyxp._devices import on
from tinyxp.backend import PLAIN
from tinyxp.models._tied import TiedHead
from tinyxp.nn import GELU, MLP, Embedding, LayerNorm, Linear, MultiHeadAttention, TransformerBlock
from tinyxp.nn._module import is_plain

if TYPE_CHECKING:
    from tinyxp._core import Tensor
    from tinyxp.models.gpt import GPT
    from tinyxp.nn import KVCache, Module

__all__ = ["Step", "can_step"]

_KINDS: dict[str, type[Module]] = {
    "attention": MultiHeadAttention,
    "attention.q_proj": Linear,
    "attention.k_proj": Linear,
    "attention.v_proj": Linear,
    "attention.out_proj": Linear,
    "ln1": LayerNorm,
    "ln2": LayerNorm,
    "mlp": MLP,
    "mlp.linear1": Linear,
    "mlp.gelu": GELU,
    "mlp.linear2": Linear,
}


def can_step(model: GPT) -> bool:
    """Whether `Step` computes what `model` computes: all its modules are as `GPT` made them, in one dtype."""
    from tinyxp.models import gpt

    blocks: list[Module] = list(model.blocks)
    if not (is_plain(model, gpt.GPT) and all(is_plain(b, TransformerBlock) for b in blocks)):
        return False
    head = Linear if type(model.lm_head) is Linear else TiedHead
    parts: list[tuple[Any, type[Module]]] = [
        (model.token_embedding, Embedding),
        (model.position_embedding, Embedding),
        (model.ln_f, LayerNorm),
        (model.lm_head, head),
    ]
    for block in blocks:
        inside = dict(block.named_modules())
        parts += [(inside.get(name), kind) for name, kind in _KINDS.items()]
        if len(block.parameters()) != len(BlockArrays._fields):  # without biases, for instance
            return False
    return (
        all(m is not None and is_plain(m, kind) for m, kind in parts)
        and all(m.eps == model.eps for m, kind in parts if kind is LayerNorm)
        and all(m.approximate == model.gelu for m, kind in parts if kind is GELU)
        and len({p.dtype for p in model.parameters()}) == 1
    )


class Step:
    """Give the logits of one more position, with an operation of the backend for each block.

    Parameters
    ----------
    model : GPT
        One that `can_step`. The arrays that its parameters have now are used.
    caches : list of KVCache
        Of all positions before; they grow.
    padding : Tensor of int64, shape (batch,), optional
        How many columns at the left of each row are padding.
    """

    def __init__(self, model: GPT, caches: list[KVCache], padding: Tensor | None) -> None:
        self.device, self.caches = model.device, caches
        self.tokens, self.positions = _arrays(
            model.token_embedding.weight, model.position_embedding.weight
        )
        self.blocks = [
            (_arrays(*block.parameters()), *_arrays(cache.keys, cache.values))
            for block, cache in zip(model.blocks, caches, strict=True)
        ]
        self.options = {"eps": model.eps, "approximate": model.gelu}
        tied = not isinstance(model.lm_head, Linear)
        head = model.token_embedding.weight.T if tied else model.lm_head.weight
        self.gamma, self.beta, self.head = _arrays(model.ln_f.gamma, model.ln_f.beta, head)
        self.visible = self.columns = None
        if padding is not None:
            (self.columns,) = _arrays(padding)
            keys = tinyxp.arange(caches[0].capacity, device=self.device) >= padding[:, None]
            (self.visible,) = _arrays(keys[:, None, None, :])

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the logits (batch, vocab_size) of what follows `tokens` (batch,), all in the vocabulary."""
        logits = self.logits(tokens, self.caches[0].length)
        self.grow()
        return logits

    def logits(self, tokens: Tensor, start: Any) -> Tensor:
        """Return the logits, with the number of positions before in `start` or where the device keeps it."""
        device, eps = self.device, self.options["eps"]
        with on(device):
            x = self._do("embed_step")(
                fresh(tokens)._raw, self.tokens, self.positions, self.columns, start=start
            )
            step = self._do("transformer_step")
            for arrays, keys, values in self.blocks:
                x = step(x, arrays, keys, values, self.visible, start=start, **self.options)
            x, _ = self._do("layer_norm")(x, self.gamma, self.beta, eps=eps)
            logits, _ = self._do("linear")(x, self.head, None)
            return wrap(logits, device)

    def grow(self) -> None:
        """Count the position that the caches have got."""
        for cache in self.caches:
            cache.length += 1

    def _do(self, name: str) -> Any:
        return self.device.fns[name if MODE.fused else PLAIN + name]


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple([fresh(t)._raw for t in tensors])
