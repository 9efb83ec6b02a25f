"""One step of training, and the validation loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyxp._core import grad_mode
from tinyxp.autograd import autocast
from tinyxp.backend import device as find_device
from tinyxp.data import Ahead
from tinyxp.graphs import Captured
from tinyxp.models import GPT
from tinyxp.nn import CrossEntropyLoss
from tinyxp.optim import (
    SGD,
    Adam,
    AdamW,
    GradScaler,
    Lion,
    Muon,
    clip_grad_norm_,
    decay_groups,
    muon_groups,
    schedules,
)
from tinyxp.random import Generator, set_rng_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinyxp._core import Tensor
    from tinyxp.backend import Device
    from tinyxp.data import TokenDataset
    from tinyxp.optim import Optimizer
    from tinyxp.training._config import RunConfig

__all__ = ["Measured", "Trainer", "make_model", "make_optimizer"]

_DROPOUT_STREAM = 2  # which random numbers of the seed; the data have 0 and 1
_EVAL_TOKENS = 8192  # tokens of a batch without gradients


def make_model(config: RunConfig, vocab_size: int, device: Device) -> GPT:
    """Return a new GPT as `config` describes it, its weights drawn from the seed."""
    return GPT(
        vocab_size,
        config.width,
        config.layers,
        config.heads,
        config.context,
        dropout_prob=config.dropout,
        device=device,
        seed=config.seed,
    )


def make_optimizer(config: RunConfig, model: GPT) -> Optimizer:
    """Return the optimizer that `config` names; only matrices decay."""
    lr, betas = config.lr, (config.beta1, config.beta2)
    groups = decay_groups(model, config.weight_decay)
    match config.optimizer:
        case "adamw":
            return AdamW(groups, lr=lr, betas=betas)
        case "adam":
            return Adam(model.parameters(), lr=lr, betas=betas)
        case "lion":
            return Lion(groups, lr=lr, betas=betas)
        case "muon":
            groups = muon_groups(model, adamw_lr=lr, weight_decay=config.weight_decay)
            return Muon(groups, lr=lr, betas=betas, adjust_lr_fn="match_rms_adamw")
        case _:
            return SGD(groups, lr=lr, momentum=config.beta1, nesterov=config.beta1 > 0)


def lr_factor(config: RunConfig, step: int) -> float:
    """Return the factor of the learning rate in the update that follows `step` updates."""
    total, warmup = config.steps, min(config.warmup, config.steps // 4)
    floor = config.min_lr / config.lr
    match config.schedule:
        case "cosine":
            return schedules.cosine(step, total=total, warmup=warmup, floor=floor)
        case "linear":
            return schedules.linear(step, total=total, warmup=warmup, floor=floor)
        case "wsd":
            decay = min(round(config.decay * total), total - warmup)
            return schedules.wsd(step, total=total, decay=decay, warmup=warmup, floor=floor)
        case _:
            return schedules.constant(step, warmup=warmup)


class Measured(NamedTuple):
    """What a step leaves on the device, to be read when someone wants to see it.

    Attributes
    ----------
    step : int
        Updates done, this one included.
    lr : float
        The learning rate it used.
    loss, grad_norm : Tensor
        0-d; the loss of the batch, and the norm of the gradient before clipping.
    """

    step: int
    lr: float
    loss: Tensor
    grad_norm: Tensor


class Trainer:
    """A model, its optimizer and its data, advanced step by step.

    A step depends on the weights, the optimizer's state, the seed and the step's number only: so a run that
    goes on from a checkpoint does what it would have done without a break.

    Parameters
    ----------
    config : RunConfig
        The settings.
    data : TokenDataset
        What to train on and to validate with.
    device : Device, str or None
        Where; `config.device` is not looked at.

    Examples
    --------
    >>> from tinyxp.data import TokenDataset
    >>> from tinyxp.training import RunConfig, Trainer
    >>> data = TokenDataset.from_text("to be or not to be, that is the question. " * 20)
    >>> trainer = Trainer(RunConfig.from_preset("tiny", steps=5), data, "cpu")
    >>> before = trainer.evaluate()
    >>> for _ in range(5):
    ...     measured = trainer.train_step()
    >>> trainer.evaluate() < before
    True
    """

    def __init__(
        self, config: RunConfig, data: TokenDataset, device: Device | str | None = None
    ) -> None:
        self.config, self.data, self.device = config, data, find_device(device)
        data.check(config.context)
        self.step = 0
        self.model = make_model(config, data.vocab_size, self.device)
        self.optimizer = make_optimizer(config, self.model)
        self.parameters = self.model.parameters()
        self.criterion = CrossEntropyLoss()
        mixed = config.precision != "float32"
        self.autocast = autocast(config.precision if mixed else "bfloat16", enabled=mixed)
        self.scaler = GradScaler(enabled=config.precision == "float16")
        self.batches = Ahead(self._batch, self.device)
        self.update: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = self._update
        if config.cuda_graph == "on":
            self.update = Captured(self._update, parameters=self.parameters)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        c = self.config
        return self.data.batch(
            step, batch_size=c.batch_size, context=c.context, seed=c.seed, device=self.device
        )

    def train_step(self) -> Measured:
        """Do one update; nothing is read back from the device."""
        c = self.config
        factor = lr_factor(c, self.step)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
        set_rng_state(Generator(c.seed).fold_in(_DROPOUT_STREAM).fold_in(self.step).state_dict())
        x, y = self.batches(self.step)
        loss, norm = self.update(x, y)
        self.step += 1
        return Measured(self.step, c.lr * factor, loss, norm)

    def _update(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Update the weights by one batch; return its loss and the gradient's norm."""
        self.model.train()
        with self.autocast:
            loss = self.criterion(self.model(x), y)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.parameters, self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach(), norm

    def evaluate(self, windows: int | None = None) -> float:
        """Return the mean validation loss in nats per token.

        Parameters
        ----------
        windows : int, optional
            Over so many crops, evenly spread; by default over all of the validation text.
        """
        context = self.config.context
        self.model.eval()
        total: Any = 0.0
        count = 0
        batches = self.data.windows(
            "val",
            batch_size=max(1, _EVAL_TOKENS // context),
            context=context,
            limit=windows,
            device=self.device,
        )
        with grad_mode(False), self.autocast:  # noqa: FBT003 - the mode is the argument
            for x, y in batches:
                total = total + self.criterion(self.model(x), y) * x.shape[0]
                count += x.shape[0]
        return float(total) / count


def matrix_parameters(model: GPT) -> int:
    """Return the number of weights that take part in matrix products: all but vectors and look-up tables."""
    names = ("token_embedding", "position_embedding")
    named = [(name, p.shape) for name, p in model.named_parameters() if not name.startswith(names)]
    return sum(math.prod(shape) for _, shape in named if len(shape) > 1)
