import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from cmmulti.randomness import SampleRandomness
from modalities.audio import representation
from modalities.audio.clip import from_floats
from modalities.audio.measures import log_spectral_distance
from modalities.audio.modality import AudioModality
from modalities.audio.settings import AudioSettings, MelSettings

MELS = [
    MelSettings(),
    MelSettings(mels=80),
    MelSettings(scale="htk", norm=None, mels=40, power=2, fmin=50),
    MelSettings(rate=22050, n_fft=1024, win=800, hop=256, mels=80, fmax=8000),
]


@pytest.mark.parametrize("mel", MELS)
def test_log_mel_is_librosas(mel: MelSettings, voice) -> None:
    wave = voice(mel.rate, 0.7)[:, 0].astype(np.float32)
    theirs = librosa.feature.melspectrogram(
        y=wave, sr=mel.rate, n_fft=mel.n_fft, hop_length=mel.hop, win_length=mel.win, window="hann", center=True,
        pad_mode="reflect", power=mel.power, n_mels=mel.mels, fmin=mel.fmin, fmax=mel.fmax, htk=mel.scale == "htk",
        norm=mel.norm,
    )  # fmt: skip
    ours = representation.log_mel(torch.from_numpy(wave)[None], mel)[0].numpy()
    # Near the floor the logarithm magnifies float32: the tolerance is on the values that are heard.
    heard = theirs > 1e-3
    assert np.abs(ours - np.log(np.maximum(theirs, mel.floor)))[heard].max() < 1e-4
    np.testing.assert_allclose(np.exp(ours), np.maximum(theirs, mel.floor), rtol=1e-4, atol=1e-4)


def test_frames_are_those_that_the_settings_say(modality: AudioModality, voice) -> None:
    x = modality.encode(from_floats(voice(8000, 0.3), 8000))
    assert x.shape == (1, *modality.shape)
    assert x.dtype == torch.float32
    assert AudioSettings().frames == 126


def test_values_stay_in_the_valid_range(modality: AudioModality) -> None:
    low, high = modality.valid_range
    silence = modality.encode(from_floats(np.zeros(4000), 8000))
    square = modality.encode(from_floats(np.sign(np.sin(np.arange(4000) * 0.1)), 8000))
    noise = modality.encode(from_floats(np.sign(np.random.default_rng(0).standard_normal(4000)), 8000))
    torch.testing.assert_close(silence, torch.full_like(silence, low))
    assert max(float(square.max()), float(noise.max())) < high


def test_a_sample_louder_than_any_clip_is_heard(modality: AudioModality) -> None:
    clip = modality.decode(torch.full((1, *modality.shape), 200.0), randomness=SampleRandomness([0], "decode"))
    assert abs(clip.floats()).max() > 0.5


def test_the_waveform_comes_back(voice) -> None:
    modality = AudioModality(AudioSettings(mel=MelSettings(mels=80), mean=-8.9, std=2.8))
    clip = from_floats(voice(8000, 1.0), 8000)
    back = modality.decode(modality.encode(clip))
    assert (back.rate, back.frames) == (8000, 8000)
    assert log_spectral_distance(back.mid(), clip.mid(), 8000, [(0, 8000)]) < 4.5
    assert abs(20 * np.log10(back.floats().std() / clip.floats().std())) < 0.3


def test_magnitudes_come_back_through_the_pseudo_inverse() -> None:
    mel = MelSettings()
    smooth = torch.linspace(1, 0.1, 129)[None, :, None].expand(1, 129, 3)
    back = representation.linear_magnitude((representation.filters(mel).T @ smooth).log(), mel)
    assert bool((back >= 0).all())
    # The constant is in no band, and the last bands end below half the rate.
    torch.testing.assert_close(back[:, 1:122], smooth[:, 1:122], rtol=0.2, atol=0.02)


def test_every_band_hears_something() -> None:
    assert bool((representation.filters(MelSettings()).sum(0) > 0).all())


def test_phase_depends_on_the_seed_alone(modality: AudioModality) -> None:
    x = 0.2 * torch.randn(3, *modality.shape, generator=torch.Generator().manual_seed(0))
    values = representation.log_mel_of(x, modality.settings)
    together = representation.griffin_lim(values, modality.settings, SampleRandomness([5, 6, 7]))
    alone = representation.griffin_lim(values[1:2], modality.settings, SampleRandomness([6]))
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(
        together[1], representation.griffin_lim(values[1:2], modality.settings, SampleRandomness([8]))[0]
    )


def test_griffin_lim_leaves_the_global_generator_alone(modality: AudioModality) -> None:
    before = torch.random.get_rng_state()
    modality.decode(torch.zeros(1, *modality.shape))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "wrong",
    [
        {"hop": 300}, {"win": 512}, {"fmax": 4001.0}, {"fmin": 4000.0}, {"floor": 0.0}, {"mels": 0}, {"window": "hann"},
        {"norm": "area"}, {"centered": False}, {"n_fft": 257},
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MelSettings(**wrong)


def test_a_clip_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ValidationError, match="more than n_fft / 2 = 128, got 100"):
        AudioSettings(samples=100)


def sounds(mel: MelSettings, samples: int) -> bool:
    """Whether a clip of zeros can be turned into sound, by torch's own account."""
    if samples % mel.hop > mel.n_fft // 2:  # torch fills what no frame reaches with silence
        return False
    spectrum = torch.zeros(1, mel.n_fft // 2 + 1, 1 + samples // mel.hop, dtype=torch.complex64)
    try:
        representation.istft(spectrum, mel, samples)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("n_fft", [100, 128])
def test_settings_are_refused_where_windows_do_not_overlap_enough(n_fft: int) -> None:
    refused = 0
    for win in (16, 63, 64, 99, 100):
        for hop in {1, win // 2 - 1, win // 2, win // 2 + 1, 3 * win // 4, win - 1, win}:
            for samples in (65 + n_fft // 2, 960, 1000):
                mel = MelSettings(n_fft=n_fft, win=win, hop=hop)
                if sounds(mel, samples):
                    AudioSettings(mel=mel, samples=samples)
                    continue
                refused += 1
                with pytest.raises(ValidationError, match=f"mel: windows of {win} samples every {hop} .* a smaller hop"):
                    AudioSettings(mel=mel, samples=samples)
    assert refused > 10


class Toy:
    """A vocoder that answers a constant."""

    def __init__(self, mel: MelSettings) -> None:
        self.mel = mel

    def __call__(self, logarithm: torch.Tensor) -> torch.Tensor:
        return torch.full((len(logarithm), 64), 0.25)


def test_a_vocoder_of_the_same_mel_is_used(modality: AudioModality) -> None:
    modality.use_vocoder(Toy(modality.settings.mel))
    values: NDArray[np.float64] = modality.decode(torch.zeros(2, *modality.shape)).floats()
    assert values.shape == (128, 1)
    assert bool((values == 0.25).all())


def test_a_vocoder_of_another_mel_is_refused_by_field(modality: AudioModality) -> None:
    from cmmulti.errors import UserError

    other = modality.settings.mel.model_copy(update={"hop": 80, "norm": None})
    with pytest.raises(UserError, match=r"hop 80 \(the model's is 64\), norm None \(the model's is 'slaney'\)"):
        modality.use_vocoder(Toy(other))
