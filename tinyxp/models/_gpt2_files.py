"""Hugging Face's layout of GPT-2: ``config.json`` and ``model.safetensors``.

Their weights of shape (in, out) are ours; their ``c_attn`` is our q, k and v side by side; their table of the
output layer is the transpose of ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinyxp
from tinyxp.errors import CheckpointError
from tinyxp.nn import init

if TYPE_CHECKING:
    import os

    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.dtypes import DTypeLike
    from tinyxp.models.gpt import GPT

__all__ = ["load", "save"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREFIX = "transformer."
ACTIVATIONS = {
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu": "none",
    "quick_gelu": "sigmoid",
}
NAMES = {
    "token_embedding.weight": "wte.weight",
    "position_embedding.weight": "wpe.weight",
    "ln_f.gamma": "ln_f.weight",
    "ln_f.beta": "ln_f.bias",
}
BLOCK = {
    "attention.out_proj.weight": "attn.c_proj.weight",
    "attention.out_proj.bias": "attn.c_proj.bias",
    "ln1.gamma": "ln_1.weight",
    "ln1.beta": "ln_1.bias",
    "ln2.gamma": "ln_2.weight",
    "ln2.beta": "ln_2.bias",
    "mlp.linear1.weight": "mlp.c_fc.weight",
    "mlp.linear1.bias": "mlp.c_fc.bias",
    "mlp.linear2.weight": "mlp.c_proj.weight",
    "mlp.linear2.bias": "mlp.c_proj.bias",
}
PACKED = ("q_proj", "k_proj", "v_proj")
# Settings that GPT does not have, with the value that it needs them to have.
FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def _renamed(num_layers: int) -> dict[str, str]:
    """Return their name, without the prefix, of each of our parameters that is stored as it is."""
    names = dict(NAMES)
    for i in range(num_layers):
        names |= {f"blocks.{i}.{ours}": f"h.{i}.{theirs}" for ours, theirs in BLOCK.items()}
    return names


# ---------------------------------------------------------------- saving
def save(model: GPT, folder: str | os.PathLike[str]) -> None:
    """Write `model`; see `GPT.save_pretrained`."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with tinyxp.no_grad():
        tinyxp.save(_packed(model), path / WEIGHTS, {"format": "pt"})
    text = json.dumps(_config(model), indent=2) + "\n"
    temporary = path / f"{CONFIG}.tmp"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path / CONFIG)


def _packed(model: GPT) -> dict[str, Tensor]:
    ours = model.state_dict()
    theirs = {PREFIX + new: ours[old] for old, new in _renamed(model.num_layers).items()}
    for i in range(model.num_layers):
        for kind in ("weight", "bias"):
            parts = [ours[f"blocks.{i}.attention.{p}.{kind}"] for p in PACKED]
            theirs[f"{PREFIX}h.{i}.attn.c_attn.{kind}"] = tinyxp.concat(parts, axis=-1)
    if not model.tie_weights:
        theirs["lm_head.weight"] = tinyxp.matrix_transpose(ours["lm_head.weight"])
    return theirs


def _config(model: GPT) -> dict[str, Any]:
    activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == model.gelu)
    dropout = model.dropout_prob
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.vocab_size,
        "n_embd": model.embed_dim,
        "n_layer": model.num_layers,
        "n_head": model.num_heads,
        "n_positions": model.max_seq_len,
        "n_ctx": model.max_seq_len,
        "n_inner": round(model.embed_dim * model.mlp_ratio),
        "activation_function": activation,
        "layer_norm_epsilon": model.eps,
        "tie_word_embeddings": model.tie_weights,
        "embd_pdrop": dropout,
        "resid_pdrop": dropout,
        "attn_pdrop": 0.0,
        "torch_dtype": str(model.token_embedding.weight.dtype),
    }


# ---------------------------------------------------------------- loading
def load(
    cls: type[GPT],
    folder: str | os.PathLike[str],
    *,
    device: Device | str | None,
    dtype: DTypeLike | None,
) -> Any:
    """Read a model; see `GPT.from_pretrained`."""
    path = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path} has no {name}; a GPT-2 folder holds {CONFIG} and {WEIGHTS}, as "
                "`hf download gpt2 --local-dir FOLDER` gets them"
            )
    config = _arguments(_read_config(path / CONFIG))
    with init.skipped():
        model = cls(**config, device=device, dtype=dtype)
    model.load_state_dict(_unpacked(tinyxp.load(path / WEIGHTS), config, path))
    return model


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise CheckpointError(f"{path} is not JSON: {e}") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold a JSON object; got {type(config).__name__}")
    return config


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `GPT` that a Hugging Face configuration stands for."""
    kind = config.get("model_type", "gpt2")
    if kind != "gpt2":
        raise CheckpointError(f"from_pretrained reads model_type 'gpt2'; got {kind!r}")
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise CheckpointError(
            f"no GPT has the activation_function {activation!r}; known: {', '.join(ACTIVATIONS)}"
        )
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise CheckpointError(f"GPT needs {name}={value} in {CONFIG}; got {config[name]}")
    try:
        sizes = {"vocab_size": config["vocab_size"], "embed_dim": config["n_embd"]}
        sizes |= {"num_layers": config["n_layer"], "num_heads": config["n_head"]}
        sizes |= {"max_seq_len": config["n_positions"]}
    except KeyError as e:
        raise CheckpointError(f"{CONFIG} has no {e}") from None
    inner = config.get("n_inner")
    return {
        **sizes,
        "mlp_ratio": 4 if inner is None else inner / config["n_embd"],
        "gelu": ACTIVATIONS[activation],
        "eps": config.get("layer_norm_epsilon", 1e-5),
        "dropout_prob": config.get("resid_pdrop", 0.1),
        "tie_weights": config.get("tie_word_embeddings", True),
    }


def _unpacked(theirs: dict[str, Tensor], config: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Return their tensors under our names; names that are neither reach `load_state_dict` as they are."""
    rest = {name.removeprefix(PREFIX): t for name, t in theirs.items()}
    ours: dict[str, Tensor] = {}
    for i in range(config["num_layers"]):
        rest.pop(f"h.{i}.attn.bias", None)  # the causal mask, stored by old versions
        rest.pop(f"h.{i}.attn.masked_bias", None)
        for kind in ("weight", "bias"):
            packed = rest.pop(f"h.{i}.attn.c_attn.{kind}", None)
            if packed is not None:
                ours |= _split(packed, f"blocks.{i}.attention", kind, path)
    for name, their_name in _renamed(config["num_layers"]).items():
        if their_name in rest:
            ours[name] = rest.pop(their_name)
    head = rest.pop("lm_head.weight", None)
    if not config["tie_weights"]:
        head = ours.get("token_embedding.weight") if head is None else head
        if head is not None:
            ours["lm_head.weight"] = tinyxp.matrix_transpose(head)
    return ours | rest


def _split(packed: Tensor, prefix: str, kind: str, path: Path) -> dict[str, Tensor]:
    width = packed.shape[-1] // 3
    if 3 * width != packed.shape[-1]:
        raise CheckpointError(
            f"{path}: c_attn.{kind} does not split into q, k and v: {packed.shape}"
        )
    return {
        f"{prefix}.{p}.{kind}": packed[..., j * width : (j + 1) * width]
        for j, p in enumerate(PACKED)
    }
