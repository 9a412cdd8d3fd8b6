"""How smooth a phase is, told by lines that are held out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mri_toys import AFFINE, head

from cmmulti.operators.fourier import Fourier
from modalities.volume.mri import estimates
from modalities.volume.mri.kspace import KSpace
from modalities.volume.mri.masks import cartesian_mask
from modalities.volume.mri.measured import PHASES_MM, MeasuredMRI
from modalities.volume.mri.phase import held_out, phase_of
from modalities.volume.mri.simulate import birdcage, smooth_phase
from modalities.volume.settings import VolumeSettings

SETTINGS = VolumeSettings(size=(44, 40), voxel_mm=(5.0, 5.0))


def measured(jump, coils, phase="tracked"):
    """Half of the k-space of a head as large as heads are, whose inner part is out of phase by ``jump`` radians."""
    values = np.moveaxis(head().values(), 2, 0).astype(np.float64)
    angle = 0.3 * smooth_phase(values.shape, 0) + jump * (values > 400)
    seen = (values * np.exp(1j * angle))[:, None] * birdcage(coils, 36, 40)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(seen.shape) + 1j * rng.standard_normal(seen.shape)
    mask = cartesian_mask("random", 40, 2, 0.15, 0)
    kspace = Fourier(seen.shape[1:])(torch.from_numpy(seen)).numpy() + 2 * noise
    affine = AFFINE @ np.diag([2.5, 2.5, 1, 1])
    item = KSpace((kspace * mask).astype(np.complex64), mask, affine)
    return MeasuredMRI.of(item, SETTINGS, None, "toy", phase), torch.from_numpy(values)


@pytest.mark.parametrize("coils", [1, 6])
def test_a_smooth_phase_is_taken_as_smooth(coils):
    assert measured(0, coils)[0].phase_mm == PHASES_MM[0]


@pytest.mark.parametrize("coils", [1, 6])
def test_a_phase_that_jumps_is_not_smoothed_away(coils):
    found, values = measured(1.5, coils)
    assert found.phase_mm < PHASES_MM[0]
    coarse, _ = measured(1.5, coils, "centre")
    errors = [
        float((m.stack.order.adjoint(m.tv(False))[:, 0] - m.stack.order.adjoint(truth)[:, 0]).norm())
        for m in (found, coarse)
        for truth in [values[m.stack.slices][:, None].float()]
    ]
    assert errors[0] < 0.7 * errors[1]


def test_notes_say_what_was_found_and_how_smooth():
    one, several, centre = measured(0, 1)[0], measured(0, 6)[0], measured(0, 1, "centre")[0]
    item = KSpace(np.zeros((2, 6, 36, 40), np.complex64), np.ones(40, bool), np.eye(4))
    stated = replace(item, sensitivities=item.kspace)
    assert "scale and phase (smooth to 40 mm)" in one.note(item)
    assert "scale, sensitivities and phase" in several.note(item)
    assert "scale and phase" in several.note(stated)
    assert "smooth to" not in centre.note(item)


def test_lines_of_the_centre_are_not_held_out():
    mask = np.zeros(100, dtype=bool)
    mask[46:54] = True
    assert not held_out(mask).any()
    mask[::3] = True
    out = held_out(mask)
    assert not (out & ~mask).any()
    assert not out[46:54].any()
    assert out.sum() == pytest.approx((mask.sum() - 8) / 4, abs=1)
    assert np.flatnonzero(out).min() < 20
    assert np.flatnonzero(out).max() > 80


def test_a_wide_centre_can_spare_some():
    out = held_out(np.ones(100, dtype=bool))
    assert 20 < out.sum() < 26
    assert not out[46:54].any()


def test_the_phase_is_that_of_the_windows_frequencies():
    """A wave that the window leaves out changes nothing; one that it keeps is there."""
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    slow, fast = torch.exp(0.3j * torch.pi * columns / 20 * 2), torch.exp(2j * torch.pi * 8 * rows / 24)
    item = KSpace(np.zeros((1, 1, 24, 20), np.complex64), np.ones(20, bool), np.diag([5.0, 5.0, 5.0, 1.0]))
    free, smooth = (estimates.smooth_window(item, mm) for mm in (0, 40))
    image = (slow + 0.5 * fast).to(torch.complex64)[None, None]
    torch.testing.assert_close(phase_of(image, free), image.angle(), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        phase_of(image, smooth), phase_of(slow.to(torch.complex64)[None, None], smooth), atol=1e-4, rtol=0
    )
    assert float((phase_of(image, free) - phase_of(image, smooth)).abs().max()) > 0.3
