"""What all curvature operators share: selection, backends, refusals, facts."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import problems
from steppe.curvature.fisher import EmpiricalFisher, Fisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.errors import SettingError, UsageError
from steppe.objective import Objective
from steppe.parameters import matching

CLOSE = {"rtol": 1e-8, "atol": 1e-10}
KINDS = {
    "hessian": Hessian,
    "ggn": GGN,
    "fisher": Fisher,
    "drawn fisher": lambda objective, **more: Fisher(objective, samples=2, **more),
    "empirical": EmpiricalFisher,
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def matrix(H):
    return H @ torch.eye(H.shape[0], dtype=H.dtype)


def make_objective(name="tanh", mode="eval", **settings):
    model, data = problems.networks()[name]
    return problems.objective(model, data, mode=mode, **settings)


def drawn(H, columns=3):
    size = (H.shape[0], columns)
    return torch.randn(size, dtype=H.dtype, generator=problems.generator(7))


@every_kind
def test_products_are_symmetric_and_linear(make):
    H = make(make_objective("attention"))
    u, v, w = drawn(H).unbind(1)
    torch.testing.assert_close(u @ (H @ v), v @ (H @ u), rtol=1e-10, atol=1e-12)
    together = H @ (2 * u - 3 * v + w)
    apart = 2 * (H @ u) - 3 * (H @ v) + H @ w
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-11)


@every_kind
def test_a_block_is_its_columns(make):
    H = make(make_objective())
    V = drawn(H)
    expected = torch.stack([H @ v for v in V.unbind(1)], dim=1)
    assert torch.equal(H @ V, expected)
    assert (H @ V[:, :0]).shape == (H.shape[0], 0)


@every_kind
@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, "eval") for name in problems.networks()), ("batch_norm", "train")],
)
def test_functional_products_are_the_retained_ones(make, name, mode):
    objective = make_objective(name, mode)
    kept, functional = make(objective), make(objective, backend="func", chunk=2)
    V = drawn(kept)
    before = problems.state_of(objective.model)
    torch.testing.assert_close(functional @ V, kept @ V, **CLOSE)
    torch.testing.assert_close(functional @ V[:, 0], kept @ V[:, 0], **CLOSE)
    problems.assert_same(problems.state_of(objective.model), before)
    assert functional.retained_bytes == 0


@every_kind
@pytest.mark.parametrize("name", ["tanh", "batch_norm", "lstm"])
def test_differences_are_near_the_retained_products(make, name):
    objective = make_objective(name)
    kept, apart = make(objective), make(objective, backend="finite_difference")
    V = drawn(kept)
    before = problems.state_of(objective.model)
    expected = kept @ V
    assert ((apart @ V) - expected).norm() < 1e-7 * expected.norm()
    assert not (apart @ torch.zeros_like(V)).any()
    problems.assert_same(problems.state_of(objective.model), before)


@every_kind
def test_all_retain_and_recompute_are_the_same_bit_for_bit(make):
    objective = make_objective()
    auto, retained = make(objective), make(objective, backend="retained", budget=0)
    redone = make(objective, backend="recompute")
    v = drawn(auto)[:, 0]
    assert torch.equal(auto @ v, retained @ v)
    assert torch.equal(auto @ v, redone @ v)
    assert min(retained.retained_bytes, auto.retained_bytes) > 0
    assert redone.retained_bytes == 0


class Squared(nn.Module):
    def __init__(self, square):
        super().__init__()
        self.inner, self.square = problems.mlp(), square

    def forward(self, x):
        return self.square(self.inner(x))


@every_kind
def test_differences_do_without_a_second_derivative(make):
    data = problems.vectors()
    exact = make(problems.objective(Squared(torch.square), data))
    apart = make(
        problems.objective(Squared(problems.Flagged.apply), data),
        backend="finite_difference",
    )
    V = drawn(exact)
    expected = exact @ V
    assert ((apart @ V) - expected).norm() < 1e-7 * expected.norm()


@every_kind
@pytest.mark.parametrize("backend", ["auto", "func", "finite_difference"])
def test_selected_parameters_are_a_block_of_the_whole(make, backend):
    objective = make_objective()
    whole = make(objective)
    part = make(objective, params=["0.*", "*.bias"], backend=backend)
    assert part.names == ("0.weight", "0.bias", "2.bias", "4.bias")
    places = torch.cat([torch.arange(200)[whole.slices[n]] for n in part.names])
    expected = matrix(whole)[places][:, places]
    near = {"rtol": 1e-5, "atol": 1e-7} if backend == "finite_difference" else CLOSE
    torch.testing.assert_close(matrix(part), expected, **near)


@every_kind
def test_blocks_of_blocks_keep_what_was_set(make):
    whole = make(make_objective(), weight_decay=0.1, budget=10**6)
    part = whole.block("2.*", "4.*").block("*.weight")
    assert part.names == ("2.weight", "4.weight")
    places = torch.cat([torch.arange(200)[whole.slices[n]] for n in part.names])
    expected = matrix(whole)[places][:, places]
    torch.testing.assert_close(matrix(part), expected, **CLOSE)
    assert (part.budget, part.products, type(part)) == (10**6, 45, type(whole))
    assert whole.products == 83
    with pytest.raises(SettingError, match=r"matches 0\.\*; they are 2\.weight, 4\."):
        part.block("0.*")


@every_kind
def test_vectors_are_cut_into_parameters(make):
    H = make(make_objective())
    v = torch.arange(float(H.shape[0]), dtype=H.dtype)
    pieces = H.unflatten(v)
    assert [p.shape for p in pieces.values()] == [p.shape for p in H.params]
    for name, piece in pieces.items():
        assert torch.equal(piece.flatten(), v[H.slices[name]])
    with pytest.raises(SettingError, match=r"the shape \(83,\), got \(82,\)"):
        H.unflatten(v[1:])


@pytest.mark.parametrize("make", [Fisher, EmpiricalFisher])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_ragged_last_batch_and_the_order_of_the_data_change_nothing(make, batch_size):
    model, (x, y) = problems.mlp(), problems.vectors()
    whole = make(problems.objective(model, (x, y), batch_size=7))
    back = (x.flip(0), y.flip(0))
    split = make(problems.objective(model, back, batch_size=batch_size))
    torch.testing.assert_close(matrix(split), matrix(whole), **CLOSE)


@every_kind
def test_a_shared_parameter_is_one_block(make):
    whole = make(make_objective("tied"))
    part = whole.block("first.*", "second.*", "unused")
    assert part.names == ("unused", "first.weight", "first.bias", "second.bias")
    places = torch.cat([torch.arange(200)[whole.slices[n]] for n in part.names])
    expected = matrix(whole)[places][:, places]
    torch.testing.assert_close(matrix(part), expected, **CLOSE)
    assert not matrix(part)[part.slices["unused"]].any()


@pytest.mark.parametrize("make", [Hessian, GGN])
def test_a_budget_for_some_batches_keeps_these_and_redoes_the_others(make):
    objective = problems.objective(problems.mlp(), problems.vectors())
    whole = make(objective)
    v = torch.ones(whole.shape[0], dtype=torch.float64)
    expected = whole @ v
    some = make(objective, budget=int(whole.retained_bytes * 0.6))
    assert torch.equal(some @ v, expected)
    assert 0 < some.retained_bytes <= some.budget
    before = objective.cost.gradients
    assert torch.equal(some @ v, expected)
    assert 0 < objective.cost.gradients - before < 1


@pytest.mark.parametrize(
    "make",
    [
        make if kind == "hessian" else pytest.param(make, marks=pytest.mark.slow)
        for kind, make in KINDS.items()
    ],
    ids=KINDS,
)
def test_nothing_keeps_an_operator_alive(make):
    objective = make_objective()
    gc.collect()
    gc.disable()
    try:
        H = make(objective)
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
        dead = weakref.ref(H), weakref.ref(H._graphs.by_batch[0])
        del H
        assert dead[0]() is None
        assert dead[1]() is None
    finally:
        gc.enable()


@every_kind
def test_weight_decay_adds_to_every_eigenvalue(make):
    objective = make_objective()
    plain, decayed = make(objective), make(objective, weight_decay=0.25)
    one = torch.eye(plain.shape[0], dtype=plain.dtype)
    torch.testing.assert_close(matrix(decayed), matrix(plain) + 0.25 * one, **CLOSE)


def test_weight_decay_is_the_hessian_of_half_the_squared_norm():
    model, (x, y) = problems.mlp(), problems.vectors()

    def loss(model, batch):
        penalty = sum(p.square().sum() for p in model.parameters()) / 2
        losses = nn.functional.cross_entropy(
            model(batch[0]), batch[1], reduction="none"
        )
        return losses + 0.25 * penalty

    written = Hessian(Objective(model, [(x[:4], y[:4]), (x[4:], y[4:])], loss=loss))
    asked = Hessian(problems.objective(model, (x, y)), weight_decay=0.25)
    torch.testing.assert_close(matrix(asked), matrix(written), **CLOSE)


@every_kind
def test_details_say_what_a_number_is_a_function_of(make):
    objective = make_objective(mode="train")
    H = make(objective, weight_decay=0.5, params="0.*")
    said = dict(H.details)
    assert said.pop("kind") == H.kind
    assert said.pop("parameters") == ("0.weight", "0.bias")
    if H.kind == "fisher":
        assert said.pop("samples") == H.samples
        assert said.pop("seed") == 0
    assert said == {
        "loss": "cross_entropy",
        "mode": "train",
        "terms": 7,
        "data": objective.digest,
        "dtype": "float64",
        "weight_decay": 0.5,
        "backend": "auto",
    }


@pytest.mark.parametrize("make", [Hessian, GGN, EmpiricalFisher])
def test_the_scale_of_the_loss_is_that_of_the_matrix(make):
    model, data = problems.mlp(), problems.vectors()

    def scaled(model, batch):
        return 3 * nn.functional.cross_entropy(
            model(batch[0]), batch[1], reduction="none"
        )

    once = make(problems.objective(model, data))
    thrice = make(Objective(model, [data], loss=scaled))
    power = 2 if make is EmpiricalFisher else 1
    torch.testing.assert_close(matrix(thrice), 3**power * matrix(once), **CLOSE)


@every_kind
@pytest.mark.parametrize("backend", ["recompute", "finite_difference"])
def test_dropout_in_training_has_the_same_masks_in_every_product(make, backend):
    model = problems.drawn(problems.Attention(dropout=0.5))
    data = problems.vectors(shape=(3, 4))
    objective = problems.objective(model, data, mode="train")
    kept, other = make(objective), make(objective, backend=backend)
    v, w = drawn(kept, 2).unbind(1)
    near = 1e-6 if backend == "finite_difference" else 1e-9
    torch.testing.assert_close(w @ (kept @ v), v @ (other @ w), rtol=near, atol=1e-9)


@every_kind
def test_transforms_refuse_random_masks(make):
    model = problems.drawn(problems.Attention(dropout=0.5))
    data = problems.vectors(shape=(3, 4))
    H = make(problems.objective(model, data, mode="train"), backend="func")
    with pytest.raises(UsageError, match="'func' cannot repeat the random masks"):
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)


class Noisy(nn.Module):
    """Dropout that forgets to look at the mode."""

    def __init__(self):
        super().__init__()
        self.inner = problems.mlp()

    def forward(self, x):
        return nn.functional.dropout(self.inner(x), 0.5)


@every_kind
def test_a_loss_that_is_not_deterministic_is_refused(make):
    data = problems.vectors()
    H = make(problems.objective(Noisy(), data))
    v = torch.ones(H.shape[0], dtype=H.dtype)
    with pytest.raises(UsageError, match=r"not deterministic.*mode='train'") as caught:
        _ = H @ v
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="not deterministic"):
        _ = H @ v
    assert (make(problems.objective(Noisy(), data), check=False) @ v).any()
    assert (make(problems.objective(Noisy(), data, mode="train")) @ v).any()


def test_randomness_of_numpy_is_noticed_too():
    source = np.random.default_rng(0)

    def loss(model, batch):
        return model(batch[0]).square().sum(1) * source.random()

    H = Hessian(Objective(problems.mlp(), [problems.vectors()], loss=loss))
    with pytest.raises(UsageError, match="not deterministic"):
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)


REFUSED = {
    r"no parameter .* matches 7\.\*, x; they are 0\.weight": {"params": ["7.*", "x"]},
    "matches nothing": {"params": []},
    "budget must be >= 0": {"budget": -1},
    "chunk must be >= 1, got 0": {"chunk": 0},
    "'recompute', 'func', 'finite_difference', got 'fd'": {"backend": "fd"},
    "compile needs backend='func', got 'auto'": {"compile": True},
    "weight_decay must be finite, got nan": {"weight_decay": float("nan")},
}


@every_kind
@pytest.mark.parametrize("said", REFUSED)
def test_settings_out_of_range_are_one_sentence(make, said):
    with pytest.raises(SettingError, match=said):
        make(make_objective(), **REFUSED[said])


@every_kind
def test_a_group_without_processes_is_one_sentence(make):
    with pytest.raises(UsageError, match="call init_process_group first"):
        make(make_objective(), group=True)


@every_kind
def test_wrong_shapes_are_refused_before_any_work(make):
    H = make(make_objective())
    with pytest.raises(SettingError, match=r"vector \(83,\).*got \(3,\)"):
        _ = H @ torch.ones(3)
    assert H.objective.cost.gradients == 0


class Written(nn.Module):
    """A model that writes to a buffer, which transforms cannot follow."""

    def __init__(self):
        super().__init__()
        self.inner = problems.mlp()
        self.register_buffer("last", torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        z = self.inner(x)
        with torch.no_grad():
            self.last.copy_(z[0])
        return z


@every_kind
def test_what_transforms_cannot_follow_is_one_sentence_and_retained_graphs_can(make):
    objective = problems.objective(Written(), problems.vectors())
    H = make(objective, backend="func")
    v = torch.ones(H.shape[0], dtype=H.dtype)
    with pytest.raises(UsageError, match="use backend='auto'") as caught:
        _ = H @ v
    assert "\n" not in str(caught.value)
    expected = make(problems.objective(objective.model.inner, problems.vectors())) @ v
    torch.testing.assert_close(make(objective) @ v, expected, **CLOSE)


def test_batches_of_one_large_tensor_are_not_counted_as_memory_of_graphs():
    x, y = problems.vectors(n=64)
    small = Hessian(problems.objective(problems.mlp(), (x, y), batch_size=1))
    _ = small @ torch.ones(small.shape[0], dtype=small.dtype)
    assert small.retained_bytes < 64 * x.nbytes


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of torch's own compiler
@pytest.mark.parametrize("make", [Hessian, GGN, EmpiricalFisher])
def test_compiled_products_are_the_retained_ones(make):
    objective = make_objective("relu")
    kept = make(objective)
    compiled = make(objective, backend="func", compile=True, chunk=2)
    V = drawn(kept)
    torch.testing.assert_close(compiled @ V, kept @ V, **CLOSE)
    torch.testing.assert_close(compiled @ V[:, 0], kept @ V[:, 0], **CLOSE)


def branching(model, batch):
    z = model(batch[0])
    return z.square().sum(1) if z.sum() > 0 else z.exp().sum(1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of torch's own compiler
@pytest.mark.parametrize("make", [Hessian, GGN, EmpiricalFisher])
def test_what_cannot_be_compiled_as_a_whole_is_one_sentence(make):
    objective = Objective(problems.mlp(), [problems.vectors()], loss=branching)
    H = make(objective, backend="func", compile=True)
    with pytest.raises(
        UsageError, match=r"compile=True cannot take .*'auto'"
    ) as caught:
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
    assert "\n" not in str(caught.value)


def test_a_name_with_brackets_is_found_by_itself():
    assert matching(("w[0]", "w[1]", "w0"), "w[1]") == ("w[1]",)
    assert matching(("w[0]", "w0"), "w[0]") == ("w[0]", "w0")
