"""GPT-2: a decoder-only transformer that trains, generates, and reads Hugging Face's files.

Radford, Wu, Child, Luan, Amodei and Sutskever, "Language models are unsupervised multitask learners", 2019.
"""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import tinyxp
from tinyxp._core import TENSORS
from tinyxp.autograd import checkpoint
from tinyxp.errors import DTypeError, ShapeError
from tinyxp.models import _gpt2_files
from tinyxp.models._generation import Generation, as_prompt
from tinyxp.models._sampling import Sampler
from tinyxp.models._tied import TiedHead
from tinyxp.nn import (
    Dropout,
    Embedding,
    KVCache,
    LayerNorm,
    Linear,
    Module,
    ModuleList,
    TransformerBlock,
    init,
)
from tinyxp.nn._module import is_plain
from tinyxp.random import Generator, default_generator

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike

__all__ = ["GPT"]

INIT_STD = 0.02  # of all weights in GPT-2


class GPT(Module):
    """A GPT-2 language model.

    Parameters
    ----------
    vocab_size : int
        Number of tokens.
    embed_dim : int
        Width of the residual stream.
    num_layers : int
        Number of blocks.
    num_heads : int
        Attention heads in each block; divides `embed_dim`.
    max_seq_len : int
        Longest sequence that has positions.
    dropout_prob : float
        Share dropped, while training, of the embeddings and of what each branch adds.
    tie_weights : bool
        Let the output layer use the token embedding's table instead of one of its own.
    mlp_ratio : float
        Hidden size of the MLPs as a multiple of `embed_dim`.
    gelu : {"tanh", "none", "sigmoid"}
        Form of the GELU.
    eps : float
        Added to the variance in the normalisations.
    device : Device or str, optional
        Where the parameters live, by default the default device.
    dtype : DTypeLike, optional
        Of the parameters, by default the default floating dtype.
    seed : int, optional
        Of the initial weights; by default they come from the generator that `tinyxp.manual_seed` starts.
    checkpoint : bool
        While recording, keep of each block its input only and compute the rest again in the backward pass:
        a third more work, for memory that hardly grows with the depth. Not part of `config`, and may be set
        later.

    Attributes
    ----------
    token_embedding, position_embedding : Embedding
    blocks : ModuleList of TransformerBlock
    ln_f : LayerNorm
    lm_head : Linear without bias
        In this order they hold the ``5 + 16 num_layers`` parameters (one less if tied). Weights start
        normal with deviation 0.02, those that write into the residual stream with
        ``0.02 / sqrt(2 num_layers)``, biases at 0.

    Examples
    --------
    >>> import tinyxp
    >>> model = GPT(vocab_size=10, embed_dim=16, num_layers=2, num_heads=4, max_seq_len=8, seed=0)
    >>> model(tinyxp.asarray([[1, 2, 3]])).shape
    (1, 3, 10)
    >>> len(model.parameters())
    37
    >>> model.generate([[1, 2, 3]], max_new_tokens=4, temperature=0).shape
    (1, 7)
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        max_seq_len: int = 1024,
        *,
        dropout_prob: float = 0.0,
        tie_weights: bool = False,
        mlp_ratio: float = 4,
        gelu: str = "tanh",
        eps: float = 1e-5,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
        seed: int | None = None,
        checkpoint: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.vocab_size, self.embed_dim, self.max_seq_len = vocab_size, embed_dim, max_seq_len
        self.num_layers, self.num_heads = num_layers, num_heads
        self.dropout_prob, self.tie_weights = dropout_prob, tie_weights
        self.mlp_ratio, self.gelu, self.eps = mlp_ratio, gelu, eps
        _check_sizes(self)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        with init.skipped():
            self.token_embedding = Embedding(vocab_size, embed_dim, **place)
            self.position_embedding = Embedding(max_seq_len, embed_dim, **place)
            self.dropout = Dropout(dropout_prob)
            self.blocks = ModuleList(self._block(place) for _ in range(num_layers))
            self.ln_f = LayerNorm(embed_dim, eps, **place)
            self.lm_head: Linear | TiedHead = (
                TiedHead(self.token_embedding)
                if tie_weights
                else Linear(embed_dim, vocab_size, bias=False, **place)
            )
        if not init.is_skipped():
            self.reset_parameters(seed)

    def _block(self, place: dict[str, Any]) -> TransformerBlock:
        return TransformerBlock(
            self.embed_dim,
            self.num_heads,
            self.mlp_ratio,
            self.dropout_prob,
            approximate=self.gelu,
            eps=self.eps,
            **place,
        )

    def reset_parameters(self, seed: int | None = None) -> None:
        """Give all parameters new initial values (Radford and others, 2019, section 2.3).

        Parameters
        ----------
        seed : int, optional
            By default the generator goes on that `tinyxp.manual_seed` starts.
        """
        random = default_generator() if seed is None else Generator(seed)
        into_residual = INIT_STD / math.sqrt(2 * max(self.num_layers, 1))
        for name, p in self.named_parameters():
            if name.endswith(("out_proj.weight", "linear2.weight")):
                init.normal_(p, std=into_residual, generator=random)
            elif name.endswith("weight"):
                init.normal_(p, std=INIT_STD, generator=random)
            else:
                init.constant_(p, 1.0 if name.endswith("gamma") else 0.0)

    @property
    def device(self) -> Device:
        """Where the model lives."""
        return self.token_embedding.weight.device

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make a model of this shape: ``GPT(**model.config)``."""
        names = (
            "vocab_size",
            "embed_dim",
            "num_layers",
            "num_heads",
            "max_seq_len",
            "dropout_prob",
            "tie_weights",
            "mlp_ratio",
            "gelu",
            "eps",
        )
        return {name: getattr(self, name) for name in names}

    # ------------------------------------------------------------ forward
    def forward(
        self,
        tokens: Any,
        *,
        caches: list[KVCache] | None = None,
        padding: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Return the logits of the token that follows each position.

        Parameters
        ----------
        tokens : Tensor, array or nested list of integers, shape (batch, T) or (T,)
            Token ids in ``[0, vocab_size)``. No position sees later ones.
        caches : list of KVCache, optional
            From `make_caches`; `tokens` then continue what was given before.
        padding : Tensor of int64, shape (batch,), optional
            How many columns at the left of each row are padding, counted from the first cached one:
            nobody looks at them, and positions count from behind them.
        last_only : bool
            Compute the logits of the last position only.

        Returns
        -------
        Tensor, shape (batch, T, vocab_size), or without batch if `tokens` have none
        """
        if type(tokens) not in TENSORS:
            tokens = tinyxp.asarray(tokens, device=self.device)
        if tokens.ndim == 1:
            out = self.forward(tokens[None, :], caches=caches, padding=padding, last_only=last_only)
            return out[0]
        start = caches[0].length if caches else 0
        self._check(tokens, start)
        stop, mask = start + tokens.shape[1], None
        table = self.position_embedding
        if padding is None and is_plain(table, Embedding) and stop <= table.weight.shape[0]:
            places = table.weight[start:stop]  # they follow each other there
        else:
            positions = tinyxp.arange(start, stop, device=tokens.device)
            if padding is not None:
                positions, mask = _padded(positions, padding, stop)
            places = table(positions)
        x = self.dropout(self.token_embedding(tokens) + places)
        for i, block in enumerate(self.blocks):
            if self.checkpoint and not caches:
                x = checkpoint(partial(block, mask=mask, is_causal=True), x)
            else:
                x = block(x, mask, is_causal=True, cache=caches[i] if caches else None)
        if last_only:
            x = x[:, -1:, :]
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits

    def _check(self, tokens: Tensor, start: int) -> None:
        if tokens.dtype.kind not in "iu":
            raise DTypeError(
                f"GPT expects integer token ids; got {tokens.dtype}; keep them integers, for a float cannot "
                "hold every id: tokens.to('int64')"
            )
        if tokens.ndim != 2 or tokens.shape[1] == 0:  # noqa: PLR2004 - batch, time
            raise ShapeError(
                f"GPT expects tokens of shape (batch, positions), at least one; got {tuple(tokens.shape)}"
            )
        if start + tokens.shape[1] > self.max_seq_len:
            raise ShapeError(
                f"GPT has max_seq_len={self.max_seq_len} positions; got {start + tokens.shape[1]}; shorten "
                "the sequence, or build the model with a larger max_seq_len"
            )

    def make_caches(self, batch: int, capacity: int) -> list[KVCache]:
        """Return an empty cache for each block.

        Parameters
        ----------
        batch : int
            Number of sequences.
        capacity : int
            Most positions that each will hold.
        """
        weight = self.token_embedding.weight
        shape = (batch, self.num_heads, capacity, self.embed_dim // self.num_heads)
        return [
            KVCache(shape, device=weight.device, dtype=weight.dtype) for _ in range(self.num_layers)
        ]

    # ------------------------------------------------------------ generation
    def generate(
        self,
        tokens: Any,
        max_new_tokens: int = 50,
        temperature: float = 1.0,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        eos: int | Sequence[int] | None = None,
        use_cache: bool = True,
        graph: bool = False,
    ) -> Tensor:
        """Continue sequences of tokens.

        Parameters
        ----------
        tokens : Tensor, array or nested list of integers, shape (batch, T) or (T,)
            What to continue. A list of lists may have rows of different lengths; shorter ones are padded
            with 0 at the left, which nobody looks at.
        max_new_tokens : int
            How many tokens to add.
        temperature : float
            Divides the logits: below 1 more of the probable, 0 always the most probable token.
        top_k : int, optional
            Draw only from the `top_k` most probable tokens.
        top_p : float, optional
            Draw only from the most probable tokens that make up the probability `top_p`.
        seed : int, optional
            Of the draws; by default the generator that `tinyxp.manual_seed` starts. The same seed and
            logits give the same tokens on every backend.
        eos : int or sequence of int, optional
            Token at which a row ends; it is then repeated until all rows have ended.
        use_cache : bool
            Keep keys and values, so that each step costs one position. The tokens are the same without.
        graph : bool
            Record what the step from one token to the next launches on a GPU, and replay it: less work for
            the host. Where that is impossible a warning says why.

        Returns
        -------
        Tensor of int64, shape (batch, T + new)
            Prompt and continuation. Beyond `max_seq_len` the last `max_seq_len` tokens are looked at. On a
            GPU the host does not wait for it; with `eos` it looks every 16 tokens whether all rows have
            ended, and drops what was made in vain.
        """
        prompt, pads = as_prompt(tokens, self)
        sampler = Sampler(temperature, top_k=top_k, top_p=top_p, seed=seed)
        return Generation(
            self, prompt, pads, sampler, _count(max_new_tokens),
            eos=eos, use_cache=use_cache, graph=graph, late=True,
        ).result()  # fmt: skip

    def stream(
        self,
        tokens: Any,
        max_new_tokens: int = 50,
        temperature: float = 1.0,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        eos: int | Sequence[int] | None = None,
        use_cache: bool = True,
        graph: bool = False,
    ) -> Iterator[Tensor]:
        """Continue sequences, giving each new token as soon as it is known; arguments as `generate`.

        Returns
        -------
        iterator of Tensor of int64, shape (batch,)

        Examples
        --------
        >>> model = GPT(10, 8, 1, 2, max_seq_len=4, seed=0)
        >>> len([token.item() for token in model.stream([1], 6, seed=0)])
        6
        """
        prompt, pads = as_prompt(tokens, self)
        sampler = Sampler(temperature, top_k=top_k, top_p=top_p, seed=seed)
        made = Generation(
            self, prompt, pads, sampler, _count(max_new_tokens),
            eos=eos, use_cache=use_cache, graph=graph, late=False,
        )  # fmt: skip
        return iter(made)

    # ------------------------------------------------------------ files
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` as Hugging Face's ``GPT2LMHeadModel`` reads them.

        Parameters
        ----------
        folder : str or path
            Is made if it is not there.
        """
        _gpt2_files.save(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: Device | str | None = None,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Read a model in Hugging Face's GPT-2 layout.

        Parameters
        ----------
        folder : str or path
            With ``config.json`` and ``model.safetensors``.
        device : Device or str, optional
            Where the parameters shall live, by default the default device.
        dtype : DTypeLike, optional
            Of the parameters, by default the default floating dtype.

        Raises
        ------
        CheckpointError
            If the files are not those of such a model.
        """
        model: Self = _gpt2_files.load(cls, folder, device=device, dtype=dtype)
        return model

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.vocab_size}, {self.embed_dim}, max_seq_len={self.max_seq_len}"


def _check_sizes(model: GPT) -> None:
    for name in ("vocab_size", "embed_dim", "num_heads", "max_seq_len"):
        if getattr(model, name) < 1:
            raise ValueError(f"GPT expects {name} >= 1; got {getattr(model, name)}")
    if model.num_layers < 0:
        raise ValueError(f"GPT expects num_layers >= 0; got {model.num_layers}")


def _count(n: Any) -> int:
    try:
        count = operator.index(n)
    except TypeError:
        count = -1
    if count < 0:
        raise ValueError(f"max_new_tokens expects an integer >= 0; got {n!r}")
    return count


def _padded(positions: Tensor, padding: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """Return the positions of each row, (batch, T), and which keys are no padding, (batch, 1, 1, keys)."""
    shifted = tinyxp.maximum(positions - padding[:, None], 0)
    visible = tinyxp.arange(keys, device=padding.device) >= padding[:, None]
    return shifted, visible[:, None, None, :]
