"""In float64 the gradient of every parameter matches central differences."""

import pytest

STEP = 1e-3  # of a stencil whose error is of fourth order, on directions of unit length
WIDTH, HEADS, TIME = 8, 2, 5


@pytest.fixture(autouse=True)
def _double(xp):
    with xp.default_dtype("float64"):
        yield


def attention(xp):
    return xp.nn.MultiHeadAttention(WIDTH, HEADS)


def layer_norm(xp):
    return xp.nn.LayerNorm(WIDTH)


def mlp(xp):
    return xp.nn.MLP(WIDTH)


def block(xp):
    return xp.nn.TransformerBlock(WIDTH, HEADS)


def causal(xp):
    return xp.tril(xp.ones((TIME, TIME))) == 1


def one_row_hidden(xp):
    return xp.asarray([[True] * i + [False] * (TIME - i) for i in (3, 0, 5, 1, 2)])


def additive(xp):
    return xp.random.Generator(9).normal((2, HEADS, TIME, TIME))


CASES = [
    (layer_norm, None),
    (mlp, None),
    *[
        (make, mask)
        for make in (attention, block)
        for mask in (None, causal, one_row_hidden, additive)
    ],
]


def randomised(xp, module):
    """Give biases and scales values, too, so that nothing is zero by accident."""
    random = xp.random.Generator(5)
    for p in module.parameters():
        xp.nn.init.normal_(p, std=0.5, generator=random)
    return module


def check_every_parameter(xp, module, loss):
    module.zero_grad()
    loss().backward()
    random = xp.random.Generator(7)
    for name, p in module.named_parameters():
        direction = random.normal(p.shape)
        direction = direction / xp.sqrt(xp.sum(direction * direction))
        slope = float(xp.sum(p.grad * direction))
        start = +p.detach()

        def value(step, p=p, start=start, direction=direction):
            with xp.no_grad():
                p[...] = start + step * direction
                out = float(loss())
                p[...] = start
            return out

        near, far = value(STEP) - value(-STEP), value(2 * STEP) - value(-2 * STEP)
        expected = (8 * near - far) / (12 * STEP)
        if name.endswith("k_proj.bias"):
            scale = float(xp.max(xp.abs(module_of(module, name).q_proj.weight.grad)))
            assert float(xp.max(xp.abs(p.grad))) < 1e-13 * max(scale, 1)
        else:
            assert slope == pytest.approx(expected, rel=1e-6), name


def module_of(module, name):
    """Return the attention that the parameter called `name` belongs to."""
    path = name.rpartition(".k_proj")[0] if ".k_proj" in name else ""
    return dict(module.named_modules())[path]


@pytest.mark.parametrize(
    ("make", "mask"), CASES, ids=lambda f: "unmasked" if f is None else f.__name__
)
def test_layers(xp, make, mask):
    module = randomised(xp, make(xp))
    x = xp.random.Generator(1).normal((2, TIME, WIDTH))
    weights = xp.random.Generator(2).normal((2, TIME, WIDTH))
    masks = [] if mask is None else [mask(xp)]
    check_every_parameter(xp, module, lambda: xp.sum(module(x, *masks) * weights))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_gpt(xp, tied, padded):
    model = xp.GPT(7, WIDTH, 2, HEADS, TIME, tie_weights=tied, seed=0)
    randomised(xp, model)
    random = xp.random.Generator(3)
    tokens, targets = random.integers(0, 7, (2, TIME)), random.integers(0, 7, (2, TIME))
    padding = xp.asarray([0, 2]) if padded else None
    check_every_parameter(
        xp, model, lambda: xp.nn.functional.cross_entropy(model(tokens, padding=padding), targets)
    )


def test_the_check_notices_a_wrong_gradient(xp):
    module = randomised(xp, mlp(xp))
    x = xp.random.Generator(1).normal((2, WIDTH))

    def loss():
        out = xp.sum(module(x) ** 2)
        if out.requires_grad:
            module.linear1.bias.register_hook(lambda g: g * 1.00001)
        return out

    with pytest.raises(AssertionError, match=r"linear1\.bias"):
        check_every_parameter(xp, module, loss)
