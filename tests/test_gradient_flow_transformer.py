"""TinyTorch's second gradient-flow suite, said again: every parameter of a transformer learns."""

BATCH, TIME, WIDTH = 2, 8, 16


def sample(xp, *shape):
    return xp.random.Generator(0).normal(shape)


def without_gradient(xp, module, zero=()):
    """Return the parameters that got no gradient, or one of zeros where mathematics has none."""
    found = []
    for name, p in module.named_parameters():
        assert p.grad is None or p.grad.shape == p.shape
        if p.grad is None or (not name.endswith(zero) and float(xp.max(xp.abs(p.grad))) < 1e-10):
            found.append(name)
    return found


# A bias of the keys moves all scores of a query alike, and softmax does not see that.
ZERO = ("k_proj.bias",)


def test_all_parameters_of_attention_receive_gradients(xp):
    attention = xp.nn.MultiHeadAttention(WIDTH, 4)
    attention.forward(sample(xp, BATCH, TIME, WIDTH)).sum().backward()
    assert len(attention.parameters()) == 8
    assert without_gradient(xp, attention, ZERO) == []


def test_both_parameters_of_layer_norm_receive_gradients(xp):
    norm = xp.nn.LayerNorm(WIDTH)
    norm.forward(sample(xp, BATCH, TIME, WIDTH)).sum().backward()
    assert [name for name, _ in norm.named_parameters()] == ["gamma", "beta"]
    assert without_gradient(xp, norm) == []


def test_all_parameters_of_the_mlp_receive_gradients(xp):
    mlp = xp.nn.MLP(WIDTH)
    mlp.forward(sample(xp, BATCH, TIME, WIDTH)).sum().backward()
    assert len(mlp.parameters()) == 4
    assert without_gradient(xp, mlp) == []


def test_all_parameters_receive_gradients_under_a_mask(xp):
    attention = xp.nn.MultiHeadAttention(WIDTH, 4)
    mask = -1e9 * xp.triu(xp.ones((4, 4)), k=1)
    out = attention.forward(sample(xp, BATCH, 4, WIDTH), mask)
    # the first position sees only itself: what comes later must not reach it
    (grad,) = xp.autograd.grad([out.sum()], [attention.v_proj.bias], retain_graph=True)
    assert float(xp.max(xp.abs(grad))) > 0
    out.sum().backward()
    assert without_gradient(xp, attention, ZERO) == []


def test_all_37_parameters_of_a_gpt_receive_gradients(xp):
    model = xp.GPT(vocab_size=20, embed_dim=16, num_layers=2, num_heads=2, max_seq_len=32, seed=0)
    random = xp.random.Generator(1)
    tokens, targets = random.integers(0, 20, (2, 8)), random.integers(0, 20, (2, 8))
    logits = model.forward(tokens)
    loss = xp.nn.CrossEntropyLoss().forward(logits.reshape(2 * 8, 20), targets.reshape(2 * 8))
    loss.backward()
    assert len(model.parameters()) == 37
    assert without_gradient(xp, model, ZERO) == []
