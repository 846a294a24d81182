"""Every operator and policy, and mixing, as one graph: all classes in one process, which share torch.compile's limits."""

from __future__ import annotations

from types import FunctionType

import pytest
import torch
from catalogue import EVERYTHING, POLICIES, Batch, Layout, V, make_batch, same
from torch import Tensor, nn

import seqaug as sa
from seqaug.noise import Noise


def own_code(function: FunctionType, name: str) -> FunctionType:
    """The same function as another one to torch.compile, which counts the recompilations of each."""
    code = function.__code__.replace(co_name=f"{function.__name__} of {name}")
    return FunctionType(code, globals(), name, None, function.__closure__)


def batch() -> Batch:
    return make_batch(Layout(), [0, 1, 2, 6], 6)


@pytest.mark.parametrize("name", EVERYTHING)
def test_module_is_one_graph(name: str) -> None:
    """`eager` keeps every draw, so that the result is that of the uncompiled operator to the bit."""
    operator, data = EVERYTHING[name](Layout()), batch()
    compiled = torch.compile(operator, fullgraph=True, backend="eager")
    for seed in (0, 1):
        torch.manual_seed(seed)
        expected = operator(data.items, timestamps=data.timestamps)
        torch.manual_seed(seed)
        assert torch.equal(compiled(data.items, timestamps=data.timestamps), expected)
    operator.eval()
    assert torch.equal(compiled(data.items, timestamps=data.timestamps), data.items)


@pytest.mark.parametrize("name", EVERYTHING)
def test_plan_survives_autograds_compiler(name: str) -> None:
    """`aot_eager` makes the graph functional and decomposes it; given the noise it must plan the same edit."""
    operator, data = EVERYTHING[name](Layout(5, "right")), make_batch(Layout(5, "right"), [0, 1, 2, 6], 6)
    noise = operator.draw(data.items, torch.Generator().manual_seed(3))

    def plan(items: Tensor, timestamps: Tensor) -> tuple[sa.Edit, Tensor, Tensor]:
        edit = operator.plan(items, noise, timestamps)
        return edit, edit(items), edit.align(timestamps)

    expected = plan(data.items, data.timestamps)
    found = torch.compile(own_code(plan, name), fullgraph=True, backend="aot_eager")(
        data.items, data.timestamps
    )
    assert same(found[0], expected[0])
    assert torch.equal(found[1], expected[1]) and torch.equal(found[2], expected[2])


@pytest.mark.parametrize("name", [*POLICIES, "Substitute strangers", "TimeReorder"])
def test_shapes_may_change(name: str) -> None:
    """One graph for batches of any size, as they come from rows grouped by length; shapes are not even known to it."""
    operator = EVERYTHING[name](Layout())

    def augment(items: Tensor, timestamps: Tensor) -> Tensor:
        return operator.sample(items, timestamps=timestamps)(items)

    compiled = torch.compile(own_code(augment, name), fullgraph=True, backend="eager", dynamic=True)
    for lengths, slots in (([3, 4], 6), ([1, 2, 7], 7), ([5, 5, 5, 5], 9)):
        data = make_batch(Layout(), lengths, slots)
        torch.manual_seed(0)
        expected = augment(data.items, data.timestamps)
        torch.manual_seed(0)
        assert torch.equal(compiled(data.items, data.timestamps), expected)


@pytest.mark.parametrize("name", [name for name in EVERYTHING if name.startswith("Time")])
def test_the_dtype_of_times_changes_no_draw(name: str) -> None:
    """Times in float32 are compared as they are, others as pairs of float32: whole numbers are the same in all."""
    operator, data = EVERYTHING[name](Layout()), make_batch(Layout(), [0, 1, 2, 6, 9, 9], 9)
    g = torch.Generator().manual_seed(1)
    times = torch.randint(0, 5, (6, 9), generator=g).cumsum(1)  # many gaps are equal
    noise = operator.draw(data.items, g)

    def plan(items: Tensor, timestamps: Tensor) -> Tensor:
        edit = operator.plan(items, noise, timestamps)
        return torch.stack([edit.source, edit.replaced])

    expected = plan(data.items, times)
    for dtype in (torch.int64, torch.int32, torch.float32, torch.float64):
        compiled = torch.compile(own_code(plan, f"{name} {dtype}"), fullgraph=True, backend="aot_eager")
        assert torch.equal(plan(data.items, times.to(dtype)), expected)
        assert torch.equal(compiled(data.items, times.to(dtype)), expected)


def test_shapes_of_mixing_may_change() -> None:
    table = nn.Embedding(V + 2, 4)
    mixup, cross = sa.MixupOp(EVERYTHING["Crop"](Layout())), sa.CrossMixup()

    def mix(items: Tensor) -> Tensor:
        vectors = mixup(items, table).embeddings
        return cross(vectors, valid=items != 0)(vectors)

    compiled = torch.compile(mix, fullgraph=True, backend="eager", dynamic=True)
    for lengths, slots in (([3, 4], 6), ([1, 2, 7], 7), ([5, 5, 5, 5], 9)):
        items = make_batch(Layout(), lengths, slots).items
        torch.manual_seed(0)
        expected = mix(items)
        torch.manual_seed(0)
        torch.testing.assert_close(compiled(items), expected)


def test_one_policy_in_machine_code() -> None:
    """The four operators of the default policy through the C++ backend."""
    policy = sa.Policy([sa.Crop(0.2, 0.7), sa.Mask(0.2, 0.7, mask_id=V + 1), sa.Delete(0.2, 0.7)])
    data = make_batch(Layout(), [0, 1, 2, 6] * 50, 6)
    noise = policy.draw(data.items, torch.Generator().manual_seed(3))

    def plan(items: Tensor) -> Tensor:
        return policy.plan(items, noise)(items)

    found = torch.compile(plan, fullgraph=True, backend="inductor")(data.items)
    # A product that is rounded once instead of twice may move a draw that lies on a border.
    assert float((found == plan(data.items)).all(1).float().mean()) > 0.98


@pytest.mark.parametrize("weighting", ["batch_sum", "row", "mean_one", "none"])
def test_mixup_is_one_graph(weighting: str) -> None:
    table, data = nn.Embedding(V + 2, 4), batch()
    mixup = sa.MixupOp(EVERYTHING["Crop"](Layout()), weighting=weighting)
    compiled = torch.compile(mixup, fullgraph=True, backend="eager")
    torch.manual_seed(0)
    expected = mixup(data.items, table)
    torch.manual_seed(0)
    found = compiled(data.items, table)
    torch.testing.assert_close(found.embeddings, expected.embeddings)
    torch.testing.assert_close(found.weight, expected.weight)
    assert torch.equal(found.lam, expected.lam) and same(found.edit, expected.edit)
    found.embeddings.sum().backward()
    assert table.weight.grad is not None and bool(table.weight.grad.isfinite().all())


@pytest.mark.parametrize("over", ["position", "feature"])
def test_cross_mixup_is_one_graph(over: str) -> None:
    cross = sa.CrossMixup(over=over)
    hidden, valid = torch.randn(4, 6, 3, requires_grad=True), batch().items != 0

    def step(hidden: Tensor, valid: Tensor) -> Tensor:
        return cross(hidden, valid=valid)(hidden)

    torch.manual_seed(0)
    expected = step(hidden, valid)
    torch.manual_seed(0)
    found = torch.compile(step, fullgraph=True, backend="eager")(hidden, valid)
    torch.testing.assert_close(found, expected)
    torch.compile(step, fullgraph=True, backend="aot_eager")(hidden, valid).sum().backward()
    assert hidden.grad is not None and hidden.grad.shape == hidden.shape


@pytest.mark.parametrize("name", ["Policy", "Insert", "TimeReorder"])
def test_default_backend_makes_real_code(name: str) -> None:
    """The backend that users get, at a width users have: it reasons about the ranges of integers, which others do not."""
    operator, data = EVERYTHING[name](Layout()), make_batch(Layout(), [0, 1, 2, 30, 50], 50)
    noise = operator.draw(data.items, torch.Generator().manual_seed(3))

    def augment(items: Tensor, timestamps: Tensor) -> Tensor:
        return operator.plan(items, noise, timestamps)(items)

    compiled = torch.compile(own_code(augment, f"real {name}"), fullgraph=True)
    assert torch.equal(compiled(data.items, data.timestamps), augment(data.items, data.timestamps))
    drawn = torch.compile(operator, fullgraph=True)(data.items, timestamps=data.timestamps)
    assert drawn.shape == data.items.shape


def test_one_slot_in_machine_code() -> None:
    """The shift from one slot to the next, of which there is none."""
    items = torch.tensor([[1], [2], [0], [3]])
    operator = sa.TimeMask(0.5, 0.5, mask_id=9)
    noise = operator.draw(items, torch.Generator().manual_seed(0))

    def plan(items: Tensor, timestamps: Tensor) -> Tensor:
        return operator.plan(items, noise, timestamps)(items)

    assert torch.compile(plan, fullgraph=True)(items, items).tolist() == [[9], [9], [0], [9]]


@pytest.mark.parametrize("top", [1, 2])
def test_ids_that_are_transposed_in_memory(top: int) -> None:
    table = torch.tensor([[0, 0], [2, 3], [1, 3], [1, 2], [0, 0]])
    operator = sa.Substitute(0.5, 0.5, table, exclude_row=True, top=top)
    items = torch.tensor([[1, 2], [3, 1], [2, 3]]).t()
    noise = operator.draw(items, torch.Generator().manual_seed(0))

    def plan(items: Tensor) -> Tensor:
        return operator.plan(items, noise)(items)

    compiled = torch.compile(own_code(plan, f"top_{top}"), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(items), plan(items))


def test_a_rate_of_ones_own_is_not_shared() -> None:
    class Whole(sa.Mask):
        def rate(self, noise: Noise) -> Tensor:
            return torch.ones_like(noise.rate)

    policy = sa.Policy([sa.Mask(0.2, 0.2, mask_id=98), Whole(0.2, 0.2, mask_id=99)])
    items = torch.arange(1, 9).repeat(64, 1)
    noise = policy.draw(items, torch.Generator().manual_seed(0))

    def plan(items: Tensor) -> Tensor:
        return policy.plan(items, noise)(items)

    found = torch.compile(own_code(plan, "whole"), fullgraph=True, backend="eager")(items)
    assert torch.equal(found, plan(items)) and int((found == 99).sum()) > 100
