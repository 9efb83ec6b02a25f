"""Modules: what they hold, state dicts, modes, places, copies, text."""

import copy
import pickle

import pytest

from tinyxp import nn
from tinyxp.errors import CheckpointError


class Mixed(nn.Module):
    """Holds everything that a module can hold."""

    def __init__(self, xp):
        self.plain = xp.Tensor([1.0, 2.0], requires_grad=True)
        self.layers = [nn.Linear(2, 3), {"inner": nn.Linear(3, 2, bias=False)}]
        self.pair = (nn.Parameter([3.0]), nn.LayerNorm(2))
        self.number = 7
        self.constant = xp.ones(2)
        self.register_buffer("mask", xp.ones(2))
        self.register_buffer("scratch", xp.zeros(2), persistent=False)

    def forward(self, x):
        return self.layers[1]["inner"](self.layers[0](x * self.plain * self.mask)) * self.pair[0]


def pickled(module):
    return pickle.loads(pickle.dumps(module))


NAMES = [
    "plain",
    "pair.0",
    "layers.0.weight",
    "layers.0.bias",
    "layers.1.inner.weight",
    "pair.1.gamma",
    "pair.1.beta",
]


def names(pairs):
    return [name for name, _ in pairs]


def test_parameters_are_found_wherever_they_are(xp):
    module = Mixed(xp)
    assert names(module.named_parameters()) == NAMES
    assert [
        p is q for p, (_, q) in zip(module.parameters(), module.named_parameters(), strict=True)
    ]
    assert module.num_parameters() == 2 + 1 + 6 + 3 + 6 + 2 + 2


def test_modules_and_children_are_found_in_lists_tuples_and_dicts(xp):
    module = Mixed(xp)
    found = ["layers.0", "layers.1.inner", "pair.1"]
    assert names(module.named_children()) == found
    assert names(module.named_modules()) == ["", *found]
    assert module.modules()[0] is module
    assert module.children() == module.modules()[1:]


def test_buffers_are_found_and_persist_if_they_shall(xp):
    module = Mixed(xp)
    assert names(module.named_buffers()) == ["mask", "scratch"]
    assert module.buffers()[0] is module.mask
    assert "scratch" not in module.state_dict()
    assert not any(t is module.constant for t in module.buffers())


def test_a_module_that_holds_itself_ends(xp):
    module = Mixed(xp)
    module.me = module
    assert names(module.named_parameters()) == NAMES


def test_frozen_parameters_stay_parameters(xp):
    layer = nn.Linear(2, 2).requires_grad_(False)
    assert [p.requires_grad for p in layer.parameters()] == [False, False]
    assert not layer(xp.ones((1, 2))).requires_grad
    assert layer.requires_grad_().weight.requires_grad


def test_tied_parameters_count_once(xp):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    model = nn.Sequential(a, b)
    assert names(model.named_parameters()) == ["0.weight", "0.bias", "1.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.bias"]
    state = {"1.weight": xp.zeros((2, 2)), "0.bias": xp.zeros(2), "1.bias": xp.zeros(2)}
    model.load_state_dict(state)  # either name will do
    assert a.weight.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_state_dict_comes_back(xp):
    one, two = Mixed(xp), Mixed(xp)
    state = one.state_dict()
    assert set(state) == {*NAMES, "mask"}
    assert not any(t.requires_grad for t in state.values())
    result = two.load_state_dict(state)
    assert result.missing == result.unexpected == []
    x = xp.ones((1, 2))
    assert one(x).tolist() == two(x).tolist()


def test_state_dict_shares_storage_and_loading_copies(xp):
    layer = nn.Linear(2, 2, bias=False)
    state = layer.state_dict()
    with xp.no_grad():
        layer.weight[0, 0] = 9.0
    assert state["weight"][0, 0].item() == 9.0
    values = xp.ones((2, 2))
    layer.load_state_dict({"weight": values})
    values[0, 0] = 5.0
    assert layer.weight[0, 0].item() == 1.0


def test_loading_casts_and_keeps_the_parameter_objects(xp):
    layer = nn.Linear(2, 1)
    before = layer.parameters()
    layer.load_state_dict({"weight": xp.ones((2, 1), dtype="float64"), "bias": xp.asarray([1])})
    assert all(p is q for p, q in zip(layer.parameters(), before, strict=True))
    assert layer.weight.dtype == "float32"
    assert layer(xp.ones((1, 2))).item() == 3.0


def test_loading_takes_arrays_of_the_host(xp):
    numpy = pytest.importorskip("numpy", reason="compares with NumPy")
    layer = nn.Linear(2, 1, bias=False)
    layer.load_state_dict({"weight": numpy.ones((2, 1))})
    assert layer.weight.tolist() == [[1.0], [1.0]]


def test_everything_that_does_not_fit_is_told_at_once_and_nothing_is_loaded(xp):
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    before = {k: v.tolist() for k, v in model.state_dict().items()}
    state = {"0.weight": xp.zeros((3, 2)), "1.gama": xp.ones(3), "0.bias": xp.ones(3)}
    with pytest.raises(CheckpointError) as error:
        model.load_state_dict(state)
    text = str(error.value)
    assert "missing (2): 1.gamma, 1.beta" in text
    assert "unexpected (1): 1.gama (did you mean 1.gamma?)" in text
    assert "0.weight: expected (2, 3), got (3, 2)" in text
    assert "nothing was loaded" in text
    assert {k: v.tolist() for k, v in model.state_dict().items()} == before


def test_not_strict_loads_what_fits_and_names_the_rest(xp):
    layer = nn.Linear(2, 1)
    result = layer.load_state_dict({"weight": xp.ones((2, 1)), "more": xp.ones(1)}, strict=False)
    assert result == (["bias"], ["more"])
    assert layer.weight.tolist() == [[1.0], [1.0]]
    with pytest.raises(CheckpointError, match="mis-shaped"):
        layer.load_state_dict({"weight": xp.ones(2)}, strict=False)


def test_train_and_eval_reach_every_module(xp):
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    assert model.training
    assert not any(m.training for m in model.eval().modules())
    assert all(m.training for m in model.train().modules())
    assert model.eval()(xp.ones(5)).tolist() == [1.0] * 5


def test_zero_grad_forgets(xp):
    layer = nn.Linear(2, 1)
    layer(xp.ones((1, 2))).sum().backward()
    assert layer.weight.grad is not None
    layer.zero_grad()
    assert [p.grad for p in layer.parameters()] == [None, None]


def test_to_converts_in_place_and_moves_gradients_along(xp):
    module = Mixed(xp)
    module.register_buffer("steps", xp.asarray([1, 2]))
    module(xp.ones((1, 2))).sum().backward()
    before = module.parameters()
    assert module.to("float64") is module
    assert all(p is q for p, q in zip(module.parameters(), before, strict=True))
    assert {p.dtype.name for p in module.parameters()} == {"float64"}
    assert module.plain.grad.dtype == "float64"
    assert module.mask.dtype == "float64"
    assert module.steps.dtype == "int64"
    out = module(xp.ones((1, 2), dtype="float64"))
    out.sum().backward()
    assert out.dtype == "float64"
    assert module.to(dtype="float32").plain.dtype == "float32"
    assert module.cpu().plain.device == "cpu"


def test_to_moves_between_backends(xp, device):
    other = "strict:cpu" if str(device) != "strict:cpu" else "cpu"
    if "strict" not in xp.available_backends():
        pytest.skip("array-api-strict is not installed here, so there is no second backend")
    model = nn.Sequential(nn.Linear(2, 3), nn.GELU())
    x = xp.ones((1, 2))
    here = model(x).tolist()
    model.to(other)
    assert {str(p.device) for p in model.parameters()} == {other}
    there = model(x.to(other))
    there.sum().backward()
    assert model[0].weight.grad.device == other
    assert there.reshape(3).tolist() == pytest.approx(here[0], abs=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(xp, copied):
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    model = nn.Sequential(a, nn.Dropout(0.5), b).eval()
    model(xp.ones((1, 2))).sum().backward()
    other = copied(model)
    assert other[0].weight is other[2].weight
    assert not other.training
    assert type(other[0].weight) is nn.Parameter
    x = xp.ones((1, 2))
    expected = model(x).tolist()
    assert other(x).tolist() == expected
    assert other[0].weight.grad.tolist() == a.weight.grad.tolist()
    nn.init.zeros_(other[0].weight)
    assert model(x).tolist() == expected
    assert other(x).tolist() != expected


def test_apply_visits_the_innermost_first(xp):
    model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.GELU())
    seen = []
    assert model.apply(seen.append) is model
    assert [type(m).__name__ for m in seen] == ["GELU", "ReLU", "Sequential", "Sequential"]


def test_repr_is_a_tree_with_shapes_and_counts(xp):
    model = nn.Sequential(*[nn.Linear(2, 3) for _ in range(3)], nn.GELU())
    lines = repr(model).splitlines()
    assert lines[0].split() == ["Sequential()", "27", "parameters"]
    assert lines[1].split()[:5] == ["├─", "0-2:", "3", "x", "Linear(2,"]
    assert "│  ├─ weight: float32[2, 3]" in lines
    assert lines[-1] == "└─ 3: GELU(approximate='tanh')"
    assert repr(nn.ReLU()) == "ReLU()"


def test_forward_must_be_defined(xp):
    with pytest.raises(NotImplementedError, match=r"Module must define forward"):
        nn.Module()(1)


def test_functional_call_uses_other_parameters_and_restores(xp):
    layer = nn.Linear(2, 1)
    before = layer.weight
    weight = xp.Tensor([[1.0], [2.0]], requires_grad=True)
    doubled = weight * 2  # not a leaf
    out = nn.functional_call(layer, {"weight": doubled, "bias": xp.zeros(1)}, xp.ones((1, 2)))
    assert layer.weight is before
    assert out.item() == 6.0
    out.sum().backward()
    assert weight.grad.tolist() == [[2.0], [2.0]]
    assert before.grad is None
    with pytest.raises(KeyError, match="no parameter or buffer 'wight'"):
        nn.functional_call(layer, {"wight": weight}, xp.ones((1, 2)))


def test_functional_call_reaches_into_lists(xp):
    class Listed(nn.Module):
        def __init__(self):
            self.factors = [nn.Parameter(2.0)]

        def forward(self, x):
            return x * self.factors[0]

    module = Listed()
    before = module.factors[0]
    assert nn.functional_call(module, {"factors.0": xp.asarray(5.0)}, xp.ones(1)).item() == 5.0
    assert module.factors[0] is before


def test_functional_call_restores_after_an_error_and_reaches_tied_places(xp):
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    model = nn.Sequential(a, b)
    before = a.weight
    out = nn.functional_call(model, {"0.weight": 2 * xp.eye(2)}, xp.ones((1, 2)))
    assert out.tolist() == [[4.0, 4.0]]
    with pytest.raises(ValueError, match="in_features=2"):
        nn.functional_call(model, {"0.weight": xp.eye(2)}, xp.ones((1, 3)))
    assert a.weight is b.weight is before


def test_module_list_and_sequential_behave_as_sequences(xp):
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    layers.append(nn.ReLU())
    assert len(layers) == 4
    assert layers[-1] is list(layers)[3]
    assert type(layers[1:3]) is nn.ModuleList
    assert len(layers[1:3]) == 2
    chain = nn.Sequential(*layers)
    assert type(chain[:2]) is nn.Sequential
    assert chain[:2](xp.ones((1, 2))).tolist() == layers[1](layers[0](xp.ones((1, 2)))).tolist()
    chain[0] = nn.ReLU()
    assert len(chain.parameters()) == 4


def test_initialisation_can_be_skipped_and_seeded(xp):
    def weights():
        xp.manual_seed(3)
        return nn.MLP(4).linear1.weight.tolist()

    assert weights() == weights()
    with nn.init.skipped():
        state = xp.random.get_rng_state()
        layer = nn.Linear(4, 4)
        assert xp.random.get_rng_state() == state
    assert not nn.init.is_skipped()
    assert nn.init.ones_(layer.weight) is layer.weight
    assert layer.weight.tolist() == [[1.0] * 4] * 4


@pytest.mark.parametrize(
    ("name", "options", "deviation"),
    [
        ("normal_", {"std": 0.5}, 0.5),
        ("uniform_", {"low": -1.0, "high": 1.0}, 3**-0.5),
        ("xavier_uniform_", {}, (2 / 200) ** 0.5),
        ("xavier_normal_", {"gain": 2.0}, 2 * (2 / 200) ** 0.5),
        ("kaiming_uniform_", {}, (2 / 80) ** 0.5),
        ("kaiming_normal_", {"gain": 1.0}, (1 / 80) ** 0.5),
    ],
)
def test_initialisers_have_the_deviation_of_their_formula(xp, name, options, deviation):
    weight = nn.Linear(80, 120).weight
    getattr(nn.init, name)(weight, generator=xp.random.Generator(0), **options)
    assert float(xp.std(weight.detach())) == pytest.approx(deviation, rel=0.03)
    assert abs(float(xp.mean(weight.detach()))) < 4 * deviation / weight.size**0.5
    assert weight.requires_grad


def test_initialisers_by_fan_want_a_matrix(xp):
    with pytest.raises(ValueError, match="at least 2 axes"):
        nn.init.xavier_normal_(nn.Linear(2, 2).bias)
