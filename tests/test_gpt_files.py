"""GPT-2's files in Hugging Face's layout."""

import json

import pytest

from tinyxp.errors import CheckpointError


def gpt(xp, **options):
    sizes = {"vocab_size": 11, "embed_dim": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 8}
    return xp.GPT(**{**sizes, "seed": 0, **options})


def randomised(xp, model):
    random = xp.random.Generator(3)
    for p in model.parameters():
        xp.nn.init.normal_(p, std=0.3, generator=random)
    return model


TOKENS = [[1, 5, 10, 3, 2]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_weights": True},
        {"gelu": "none", "eps": 1e-6, "dropout_prob": 0.25, "mlp_ratio": 2},
        {"gelu": "sigmoid", "num_layers": 1, "embed_dim": 12, "mlp_ratio": 50 / 12},
        {"dtype": "float64"},
    ],
)
def test_a_model_comes_back_as_it_was(xp, tmp_path, options):
    model = randomised(xp, gpt(xp, **options))
    model.save_pretrained(tmp_path / "new" / "folder")
    other = xp.GPT.from_pretrained(tmp_path / "new" / "folder", dtype=options.get("dtype"))
    assert other.config == model.config
    assert other.eval()(TOKENS).tolist() == model.eval()(TOKENS).tolist()
    assert all(p.requires_grad for p in other.parameters())
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_the_names_and_shapes_are_hugging_faces(xp, tmp_path):
    gpt(xp).save_pretrained(tmp_path)
    tensors = xp.load(tmp_path / "model.safetensors")
    block = {
        "ln_1.weight": (16,),
        "ln_1.bias": (16,),
        "attn.c_attn.weight": (16, 48),
        "attn.c_attn.bias": (48,),
        "attn.c_proj.weight": (16, 16),
        "attn.c_proj.bias": (16,),
        "ln_2.weight": (16,),
        "ln_2.bias": (16,),
        "mlp.c_fc.weight": (16, 64),
        "mlp.c_fc.bias": (64,),
        "mlp.c_proj.weight": (64, 16),
        "mlp.c_proj.bias": (16,),
    }
    expected = {
        "transformer.wte.weight": (11, 16),
        "transformer.wpe.weight": (8, 16),
        "transformer.ln_f.weight": (16,),
        "transformer.ln_f.bias": (16,),
        "lm_head.weight": (11, 16),
        **{f"transformer.h.{i}.{name}": shape for i in range(2) for name, shape in block.items()},
    }
    assert {name: t.shape for name, t in tensors.items()} == expected
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert config["activation_function"] == "gelu_new"
    assert config["tie_word_embeddings"] is False
    assert (config["n_embd"], config["n_layer"], config["n_head"]) == (16, 2, 4)


def test_hugging_face_computes_the_same(xp, tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip("transformers", reason="compares with Hugging Face's model")
    for i, gelu in enumerate(("tanh", "none", "sigmoid")):
        folder = tmp_path / gelu
        model = randomised(xp, gpt(xp, gelu=gelu, tie_weights=i == 1))
        model.save_pretrained(folder)
        theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
        with torch.no_grad():
            logits = theirs(torch.tensor(TOKENS)).logits
        difference = xp.max(xp.abs(model(TOKENS).detach() - xp.asarray(logits.tolist())))
        assert float(difference) < 1e-4
        theirs.save_pretrained(folder)
        assert xp.GPT.from_pretrained(folder)(TOKENS).tolist() == model(TOKENS).tolist()


def test_the_names_of_the_first_release_are_read_too(xp, tmp_path):
    """Without prefix, with the causal mask among the weights, tied without saying so, no n_inner."""
    model = randomised(xp, gpt(xp, tie_weights=True))
    model.save_pretrained(tmp_path)
    tensors = {
        name.removeprefix("transformer."): t
        for name, t in xp.load(tmp_path / "model.safetensors").items()
    }
    tensors |= {f"h.{i}.attn.bias": xp.tril(xp.ones((1, 1, 8, 8))) for i in range(2)}
    xp.save(tensors, tmp_path / "model.safetensors")
    config = {
        "n_embd": 16,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 8,
        "vocab_size": 11,
        "n_inner": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert xp.GPT.from_pretrained(tmp_path).eval()(TOKENS).tolist() == model(TOKENS).tolist()


def changed(path, **values):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"model_type": "llama"}, "model_type 'gpt2'; got 'llama'"),
        ({"activation_function": "relu"}, "activation_function 'relu'; known: gelu_new"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=False"),
        ({"n_embd": 20}, "mis-shaped"),
        ({"n_layer": 3}, r"missing \(16\): blocks.2"),
        ({"n_layer": 1}, r"unexpected \(12\): h.1"),
    ],
)
def test_what_is_no_such_model_is_explained(xp, tmp_path, values, text):
    gpt(xp).save_pretrained(tmp_path)
    changed(tmp_path, **values)
    with pytest.raises(CheckpointError, match=text):
        xp.GPT.from_pretrained(tmp_path)


def test_missing_and_broken_files_are_explained(xp, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        xp.GPT.from_pretrained(tmp_path)
    gpt(xp).save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object; got list"),
        (json.dumps({"n_embd": 3}), "config.json has no 'vocab_size'"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            xp.GPT.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(CheckpointError):
        xp.GPT.from_pretrained(tmp_path)
