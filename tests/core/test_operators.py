"""Every operator under the contract suite, on odd and non-square sizes."""

import pytest
import torch
from torch.nn import functional as F

from cmmulti.errors import UserError
from cmmulti.operators.affine import Affine
from cmmulti.operators.base import Identity
from cmmulti.operators.cg import conjugate_gradient
from cmmulti.operators.channels import LUMA, ChannelMix, grey
from cmmulti.operators.fourier import Fourier, Phase
from cmmulti.operators.mask import Mask
from cmmulti.operators.resample import BlockMean, Resample
from cmmulti.operators.restriction import Restriction
from cmmulti.operators.stack import Stack
from cmmulti.testing.operators import check_operator
from cmmulti.testing.tiny import operators

D = (3, 7, 9)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def colour_basis():
    """Orthogonal Q (3, 3) whose first column is LUMA at unit norm (arXiv 2303.01469, appendix D)."""
    luma = torch.tensor(LUMA, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.cat([luma[:, None], torch.eye(3, dtype=torch.float64)[:, 1:]], 1))
    return -q if q[:, 0].sum() < 0 else q


AFFINE = Affine(torch.tensor([2.0, 0.3]).view(2, 1, 1, 1), torch.tensor([1.0, -4.0]).view(2, 1, 1, 1), (5, 7), (1, 2))
HALF = random(1, 7, 9) > 0
OPERATORS = {
    **operators(),
    "identity": Identity(D),
    "mask-per-sample": Mask(random(2, 1, 7, 9) > 0, D),
    "mask-complex": Mask(HALF, D, complex_domain=True),
    "mask-empty": Mask(torch.zeros(1, 1, 7, 9), D),
    "fourier-1d": Fourier((2, 9), dims=1),
    "fourier-3d": Fourier((1, 5, 4, 3), dims=3),
    "block-mean-1d": BlockMean((2, 17), 4),
    "block-mean-3d": BlockMean((1, 5, 4, 3), (1, 1, 2)),
    "resample-up": Resample(D, (10, 13), "linear"),
    "resample-box": Resample(D, (4, 4), "box"),
    "resample-one-axis": Resample((1, 4, 3, 9), (4,), "box"),
    "grey": grey(D),
    "colour-basis": ChannelMix(colour_basis(), D),
    "channel-mix-complex": ChannelMix(random(2, 3), D, complex_domain=True),
    "crop-gain": AFFINE.operator((3, 8, 9)),
    "single-coil": Mask(HALF[:, :1], D, complex_domain=True) @ Fourier(D) @ Phase(random(2, *D)),
    "restricted-means": Restriction(torch.tensor([1, 0, 1, 1]), (3, 4, 4)) @ Resample(D, (4, 4)),
    "stack-complex": Stack([Fourier(D), Mask(HALF, D, complex_domain=True)]),
    "adjoint": BlockMean(D, 2).H,
}


@pytest.mark.parametrize(**check_operator.cases(OPERATORS))
def test_contract(check, piece):
    check(piece)


def test_the_suite_finds_a_wrong_adjoint():
    class Wrong(Mask):
        def backward(self, y):
            return 1.001 * y * self.mask

    with pytest.raises(AssertionError, match=r"adjoint: .* differ"):
        check_operator(Wrong(HALF, D))


def test_the_suite_finds_a_pinv_that_is_no_pinv():
    class Wrong(BlockMean):
        def pinv(self, y):
            return self.adjoint(y)

    with pytest.raises(AssertionError, match="pseudo_inverse"):
        check_operator(Wrong(D, 2))


@pytest.mark.parametrize(("kernel", "mode"), [("cubic", "bicubic"), ("linear", "bilinear")])
@pytest.mark.parametrize("size", [(7, 13), (24, 31), (40, 33)])
def test_resampling_is_torch_with_antialiasing(kernel, mode, size):
    x = random(2, 1, 24, 31)
    want = F.interpolate(x, size, mode=mode, antialias=True)
    torch.testing.assert_close(Resample((1, 24, 31), size, kernel)(x), want, rtol=0, atol=1e-12)


def test_block_mean_is_average_pooling_and_box_resampling():
    x = random(2, 3, 8, 12)
    torch.testing.assert_close(BlockMean((3, 8, 12), (4, 3))(x), F.avg_pool2d(x, (4, 3)), rtol=0, atol=1e-14)
    torch.testing.assert_close(BlockMean((3, 8, 12), 4)(x), Resample((3, 8, 12), (2, 3), "box")(x), rtol=0, atol=1e-14)
    ragged = BlockMean((1, 5), 3)(torch.arange(5.0).view(1, 1, 5))
    assert ragged.tolist() == [[[1.0, 3.5]]]


@pytest.mark.parametrize(("old", "new"), [(9, 4), (4, 4), (3, 5), (4, 7), (3, 6)])
def test_box_resampling_takes_the_mean_over_each_new_cell(old, new):
    """Cut into parts that fit both grids, each new element is the mean of its parts; so the mean of all is kept, too."""
    x = torch.randn(2, 1, old, dtype=torch.float64)
    want = x.repeat_interleave(new, -1).unflatten(-1, (new, old)).mean(-1)
    torch.testing.assert_close(Resample((1, old), (new,), "box")(x), want, rtol=0, atol=1e-12)


def test_constants_stay_constant():
    one = torch.ones(1, *D, dtype=torch.float64)
    for operator in (BlockMean(D, 2), Resample(D, (3, 4)), Resample(D, (11, 4), "box"), Resample(D, (3, 11), "linear")):
        torch.testing.assert_close(operator(one), torch.ones(1, *operator.range, dtype=torch.float64))
        torch.testing.assert_close(BlockMean(D, 2).pinv(torch.ones(1, 3, 4, 5)), torch.ones(1, *D))


def test_grey_replacement_is_replacement_in_the_paper_basis():
    """Restoring the luma equals Q [known coefficient; the estimate's colour coefficients]."""
    x, truth, q = random(2, *D), random(2, *D, seed=1), colour_basis()
    operator = grey(D)
    ours = x + operator.pinv(operator(truth) - operator(x))
    rotated, known = ChannelMix(q.T, D)(x), ChannelMix(q.T, D)(truth)
    paper = ChannelMix(q, D)(torch.cat([known[:, :1], rotated[:, 1:]], 1))
    torch.testing.assert_close(ours, paper, rtol=0, atol=1e-12)


def test_fourier_puts_zero_frequency_in_the_middle():
    k = Fourier((1, 7, 8))(torch.ones(1, 1, 7, 8, dtype=torch.complex128))
    assert k.abs().flatten().argmax() == 3 * 8 + 4
    assert float(k.abs().max()) == pytest.approx((7 * 8) ** 0.5)


def test_stack_joins_and_splits():
    parts = [BlockMean(D, 2), Phase(random(1, *D))]
    stack, x = Stack(parts), random(2, *D)
    split = stack.split(stack(x))
    for got, part in zip(split, parts, strict=True):
        assert torch.equal(got, part(x))
    assert torch.equal(stack.join(split), stack(x))


def test_composition_multiplies_pseudo_inverses_only_where_it_may():
    inner, outer = Fourier((1, 6, 5)), Mask(random(1, 6, 5) > 0, (1, 6, 5), complex_domain=True)
    assert (outer @ inner).closed_form_pinv
    mean = BlockMean((1, 6, 5), 2)
    assert not (Resample((1, 3, 3), (2, 2)) @ mean).closed_form_pinv
    with pytest.raises(ValueError, match="does not fit"):
        mean @ mean


def test_cg_solves_each_sample_on_its_own():
    """A batch of well and badly conditioned systems, real and complex, against a direct solution."""
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float64, torch.complex128):
        m = torch.randn(3, 12, 8, generator=generator, dtype=dtype) * torch.tensor([1.0, 100.0, 0.01]).view(3, 1, 1)
        normal = m.mH @ m
        right = torch.randn(3, 8, generator=generator, dtype=dtype)
        right[2] = 0
        got = conjugate_gradient(lambda x, n=normal: (n @ x[..., None])[..., 0], right, torch.zeros_like(right), 100, 1e-12)
        torch.testing.assert_close(got, torch.linalg.solve(normal, right), rtol=1e-7, atol=1e-12)


def test_cg_leaves_a_sample_that_is_solved_as_it_is():
    """However long another of its batch still takes."""
    scales = torch.stack([torch.linspace(1, 2, 6), torch.logspace(0, 4, 6)]).double()
    right = torch.ones(2, 6, dtype=torch.float64)

    def solved(which):
        return conjugate_gradient(lambda x: scales[which] * x, right[which], 0 * right[which], tolerance=0.05)

    torch.testing.assert_close(solved([0, 1]), torch.cat([solved([0]), solved([1])]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gain", [1e-15, 1e-9, 1e9, 1e15])
def test_cg_in_single_precision_does_not_depend_on_the_unit(gain):
    """Squares of such numbers are beyond single precision, and the sum of squares was taken for convergence."""
    m, truth = random(1, 9, 5).float(), random(1, 5, seed=1).float()

    def solved(unit):
        normal = unit**2 * (m.mT @ m)
        return conjugate_gradient(lambda x: (normal @ x[..., None])[..., 0], (normal @ truth[..., None])[..., 0], 0 * truth)

    torch.testing.assert_close(solved(gain), truth, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(solved(2.0**-30), solved(1.0), rtol=0, atol=0)


def test_cg_leaves_a_start_beside_which_the_right_side_is_nothing():
    start = torch.full((1, 3), 7.0)
    got = conjugate_gradient(lambda x: 0 * x, torch.full((1, 3), 1e-42), start)
    assert torch.equal(got, start)


def test_cg_keeps_the_null_space_of_its_start():
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0])
    start = torch.tensor([[5.0, 6.0, 7.0, 8.0]])
    got = conjugate_gradient(lambda x: mask * x, mask * torch.ones(1, 4), start)
    assert got.tolist() == [[1.0, 6.0, 1.0, 8.0]]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_cg_goes_to_nothing_where_nothing_was_measured(scale):
    """Exact measurements of 0, in single precision: 0 where the operator looks, the start elsewhere."""
    mask, start = torch.tensor([1.0, 0, 1, 0]), scale * torch.tensor([[3.0, 1, -1, 2]])
    got = conjugate_gradient(lambda x: mask * x, torch.zeros(1, 4), start)
    torch.testing.assert_close(got, (1 - mask) * start, rtol=0, atol=1e-6 * scale)


def test_affine_there_and_back():
    values = random(2, 3, 5, 7)
    x = AFFINE.to_model(values, (8, 9), fill=-1.0)
    torch.testing.assert_close(AFFINE.to_item(x), values)
    assert bool((x[..., ~AFFINE.inside((8, 9))[0, 0]] == -1).all())


def test_a_wrong_kernel_or_matrix_is_refused():
    with pytest.raises(UserError, match="did you mean 'cubic'"):
        Resample(D, (3, 3), "cubi")
    with pytest.raises(ValueError, match="ChannelMix: expected a matrix"):
        ChannelMix(random(2, 4), D)
    with pytest.raises(ValueError, match="BlockMean"):
        BlockMean(D, 0)
