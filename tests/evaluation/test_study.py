"""Figures of models whose quality is known beforehand."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_toys import LENGTH, WaveModality, Waves, pipeline, trained_on, unseen
from torch import Tensor

from cmmulti.errors import UserError
from cmmulti.evaluation.classifier import Training, cached_classifier, fingerprint, train_classifier
from cmmulti.evaluation.sets import RealSet, draw, needs_round_trip, round_trip
from cmmulti.evaluation.study import Study, label_features, study, training_tensors
from cmmulti.modality import DataSource, ModalitySettings, Split
from cmmulti.nn.classifier import Classifier
from cmmulti.pipeline import Pipeline
from cmmulti.randomness import SampleRandomness

SOURCE = DataSource(name="waves")
QUICK = Training(steps=150, batch=32)


class Lossy(WaveModality):
    lossy = True


class Hissing(WaveModality):
    def decode(self, x: Tensor, like: Tensor | None = None, randomness: SampleRandomness | None = None) -> Tensor:
        assert randomness is not None
        return x[0] + randomness.normal(x.shape)[0]


class Nameless(WaveModality):
    labelled = False


def studied(answers: Tensor, folder: Path, modality: type[WaveModality] = WaveModality, classes: int = 2) -> Study:
    pipe = pipeline(answers, modality(ModalitySettings()), classes)
    result = study([("model", pipe, [1])], SOURCE, "test", 128, 0, folder, QUICK, lambda line: None)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


def test_a_perfect_model_reaches_the_floor(cache: Path) -> None:
    result = studied(unseen(50_000), cache)
    row, floor = result.rows[0], result.floor
    assert result.classifier_accuracy is not None
    assert result.classifier_accuracy[0].value > 0.95
    assert row.accuracy is not None
    assert row.accuracy.value > 0.95
    assert row.nfe == 1
    assert row.n == 128
    assert row.frechet_matched < 3 * floor.frechet_matched
    assert row.recall > floor.recall - 0.25
    assert row.copied is not None
    assert row.copied < 0.1
    assert result.data.draws * 64 == len(result.data.train) > 64  # of 64 items, each augmented anew


def test_samples_of_the_wrong_class_are_told(cache: Path) -> None:
    row = studied(unseen(50_000).flip(0), cache).rows[0]
    assert row.accuracy is not None
    assert row.accuracy.value < 0.05
    assert row.recall > 0.5  # as a set they are as good as before


def test_noise_is_far_from_the_data(cache: Path) -> None:
    noise = torch.randn(2, 200, 1, LENGTH, generator=torch.Generator().manual_seed(0))
    result = studied(noise, cache)
    assert result.rows[0].frechet_matched > 5 * result.floor.frechet_matched
    assert result.rows[0].precision < result.floor.precision - 0.2


def test_one_picture_per_class_has_no_recall(cache: Path) -> None:
    assert studied(unseen(50_000, 1), cache).rows[0].recall < 0.1


def test_a_model_that_repeats_its_training_set_is_found_out(cache: Path) -> None:
    row = studied(trained_on(), cache).rows[0]
    assert row.copied is not None
    assert row.copied > 0.5
    assert row.suspects


def test_without_labels_there_are_distances_but_no_accuracy(cache: Path) -> None:
    result = studied(unseen(50_000)[:1], cache, Nameless, classes=0)
    assert result.classifier_accuracy is None
    assert result.rows[0].accuracy is None
    assert "principal components" in result.features.name


def test_a_conditional_model_needs_data_with_labels(cache: Path) -> None:
    with pytest.raises(UserError, match="needs labels"):
        studied(unseen(50_000), cache, Nameless)


def test_where_items_show_less_than_tensors_real_ones_pass_through_them_too(cache: Path) -> None:
    result = studied(unseen(50_000), cache, Lossy)
    assert result.data.through
    assert torch.equal(result.data.heldout.x[..., :-1], result.data.unseen.x[..., :-1].round(decimals=1))
    assert any("decoding" in note for note in result.notes)


def test_too_few_samples_are_refused(cache: Path) -> None:
    pipe = pipeline(unseen(50_000), WaveModality(ModalitySettings()))
    with pytest.raises(UserError, match="at least 16"):
        study([("model", pipe, [1])], SOURCE, "test", 4, 0, cache, QUICK, lambda line: None)


def test_the_round_trip_keeps_the_shape_that_framing_changed() -> None:
    modality = Lossy(ModalitySettings())
    x = torch.randn(5, 1, LENGTH)
    assert needs_round_trip(modality, x)
    assert not needs_round_trip(WaveModality(ModalitySettings()), x)
    back = round_trip(modality, x, range(5))
    assert back.shape == x.shape
    assert torch.equal(back[..., -1], back[..., -2])


def test_what_decoding_draws_for_a_row_depends_on_its_seed_alone() -> None:
    modality, x = Hissing(ModalitySettings()), torch.zeros(2, 1, LENGTH)
    both = round_trip(modality, x, [4, 5])
    assert torch.equal(both[1:], round_trip(modality, x[1:], [5]))
    assert not torch.equal(both[0], both[1])


def test_drawing_depends_on_the_seed_alone_and_repeats_only_what_is_augmented() -> None:
    data = Waves("train")
    a, b = draw(data, 3, 20, copies=2), draw(data, 3, 20, copies=2)
    assert torch.equal(a.x, b.x)
    assert len(a) == 40
    assert torch.equal(a.labels[:20], a.labels[20:])
    assert not torch.equal(a.x[:20], a.x[20:])
    assert not torch.equal(a.x, draw(data, 4, 20, copies=2).x)

    class Plain(Waves):
        def tensor(self, index: int, generator: torch.Generator | None) -> Tensor:
            return self.item(index)

    plain = draw(Plain("train"), 3, 20, copies=2)
    assert len(plain) == 20
    places = [next(i for i in range(len(data)) if torch.equal(data.item(i), x)) for x in plain.x]
    assert places != sorted(places)
    assert plain.labels.tolist() == data.labels[places].tolist()


def test_the_classifier_is_the_same_each_time_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    data, how = draw(Waves("train"), 0, 64), Training(steps=5)
    state = torch.get_rng_state()
    first, second = train_classifier(data, 2, how), train_classifier(data, 2, how)
    assert torch.equal(state, torch.get_rng_state())
    assert fingerprint(first) == fingerprint(second)
    kept = cached_classifier(tmp_path, {"dataset": "waves"}, data, 2, how)
    read = cached_classifier(tmp_path, {"dataset": "waves"}, data, 2, how)
    assert fingerprint(kept) == fingerprint(read) == fingerprint(first)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert fingerprint(
        cached_classifier(tmp_path, {"dataset": "waves"}, data, 2, Training(steps=5, seed=1))
    ) != fingerprint(kept)


def test_of_two_at_once_one_trains_the_classifier_and_both_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, made = draw(Waves("train"), 0, 64), []

    def train(*words: Any) -> Classifier:
        made.append(train_classifier(*words))
        time.sleep(0.2)
        return made[-1]

    monkeypatch.setattr("cmmulti.evaluation.classifier.train_classifier", train)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: cached_classifier(tmp_path, {"dataset": "waves"}, data, 2, Training(steps=1)), range(2)))
    assert len(made) == 1


def test_the_distance_in_features_follows_the_change(cache: Path) -> None:
    features = label_features(WaveModality(ModalitySettings()), SOURCE, cache, QUICK)
    assert features is not None
    assert features.hash == studied(unseen(50_000), cache).features.hash
    data, noise = Waves("test"), torch.randn(64, 1, LENGTH, generator=torch.Generator().manual_seed(0))
    x = torch.stack([data.item(i) for i in range(64)])
    far = [features.distance(x, x + level * noise) for level in (0.0, 0.1, 1.0)]
    assert far[0].abs().max() < 1e-6
    assert far[1].shape == (64,)
    assert far[0].mean() < far[1].mean() < far[2].mean()
    assert features.distance(x[::2], x[1::2]).mean() > features.distance(x[:-2], x[2:]).mean()  # the other class is farther
    assert label_features(Nameless(ModalitySettings()), SOURCE, cache, QUICK) is None


def test_a_damaged_classifier_is_refused_by_name(tmp_path: Path) -> None:
    data, how = draw(Waves("train"), 0, 64), Training(steps=1)
    cached_classifier(tmp_path, {"dataset": "waves"}, data, 2, how)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=path.name):
        cached_classifier(tmp_path, {"dataset": "waves"}, data, 2, how)


def test_other_data_of_the_same_name_and_size_have_a_classifier_of_their_own(tmp_path: Path) -> None:
    how, data = Training(steps=2), training_tensors(Waves("train"))
    swapped = RealSet(data.x, 1 - data.labels)
    first, second, again = (cached_classifier(tmp_path, {"dataset": "folder"}, d, 2, how) for d in (data, swapped, data))
    assert fingerprint(first) == fingerprint(again) != fingerprint(second)


class Renamed(WaveModality):
    """The same waves, in folders of other names."""

    def dataset(self, source: DataSource, split: Split) -> Waves:
        found = super().dataset(source, split)
        found.class_names = ["long", "short"]
        return found


def test_data_of_other_classes_than_the_models_are_refused(cache: Path) -> None:
    with pytest.raises(
        UserError, match=r"waves: expected the model's 2 classes \(slow, fast\), got 2 classes \(long, short\)"
    ):
        studied(unseen(50_000), cache, Renamed)


def test_classes_known_by_number_alone_may_have_any_name(cache: Path) -> None:
    pipe = pipeline(unseen(50_000), Renamed(ModalitySettings()))
    numbered = pipe.config.model_copy(update={"classes": ["0", "1"]})
    pipe = Pipeline(pipe.model, pipe.modality, numbered, pipe.card)
    assert study([("model", pipe, [1])], SOURCE, "test", 16, 0, cache, QUICK, lambda line: None) is not None
