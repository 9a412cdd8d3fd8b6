"""Distances of a named network's features: the suite, the methods that take them, and bad files."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cmmulti import registry
from cmmulti.conditioning import Condition
from cmmulti.config import PieceConfig, resolve
from cmmulti.distances import feature_distance
from cmmulti.errors import UserError
from cmmulti.methods.cd import CD, CDSettings
from cmmulti.methods.ct import CT, CTSettings
from cmmulti.methods.ctm import CTM, CTMSettings
from cmmulti.methods.distance import ElementDistance, FeatureDistance, distance_of
from cmmulti.methods.lcm import LCM, LCMSettings
from cmmulti.nn.classifier import Classifier
from cmmulti.nn.feature_network import CONFIG, WEIGHTS, ClassifierFile, TrainedClassifier, write_classifier
from cmmulti.randomness import TrainingRandomness
from cmmulti.testing.feature_networks import FeatureNetworkCase, check_feature_network
from cmmulti.testing.methods import SHAPE, at, check_method, loss_of, prepared
from cmmulti.training.network_check import check_distance


def write(folder: Path, shape=SHAPE, seed=0) -> Path:
    """A classifier with random weights and moved statistics, as if it had been trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(shape, 3, width=32)
        with torch.no_grad():
            classifier.mean.fill_(0.1)
            classifier.std.fill_(0.7)
        classifier.train()
        classifier(torch.randn(16, *shape))
    about = ClassifierFile(shape=shape, classes=3, modality={"name": "toy"}, data={"name": "toys"}, training={})
    return write_classifier(folder, classifier.eval(), about)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("features") / "toys")


def named(folder: Path) -> dict[str, str]:
    return {"name": "classifier", "path": str(folder)}


@pytest.mark.parametrize("shape", [(2, 9), (1, 6, 5), (1, 4, 5, 6)], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize("name", sorted(check_feature_network.checks))
def test_contract(name, shape, tmp_path):
    network = TrainedClassifier(str(write(tmp_path / "classifier", shape)))
    check_feature_network.checks[name](FeatureNetworkCase(network, shape))


def made(kind, folder):
    settings = {CD: CDSettings, CT: CTSettings, CTM: CTMSettings, LCM: LCMSettings}[kind]
    more = {"guidance": (1.0, 3.0)} if kind is LCM else {}
    return kind(settings(distance=named(folder), **more))


KEPT = [name for name in check_method.checks if "fixed" not in name]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("kind", [CD, CT, CTM], ids=["cd", "ct", "ctm"])
def test_methods_keep_their_contract(kind, name, folder):
    """All but the fixed point of a distance of elements."""
    check_method.checks[name](made(kind, folder))


@pytest.mark.parametrize("kind", [CD, CT, CTM, LCM], ids=["cd", "ct", "ctm", "lcm"])
def test_the_loss_is_made_of_features(kind, folder, monkeypatch):
    """What the method compares is caught and compared once more, layer by layer, outside it."""
    ready, model, _ = prepared(made(kind, folder))
    assert isinstance(ready.distance, FeatureDistance)
    seen = []
    forward = FeatureDistance.forward
    monkeypatch.setattr(FeatureDistance, "forward", lambda self, a, b: seen.append((a, b)) or forward(self, a, b))
    if kind is CTM:
        ready.settings = ready.settings.model_copy(update={"denoising": 0.0})
    loss = loss_of(ready, model)
    ((student, target),) = seen
    classifier = TrainedClassifier(str(folder)).classifier.eval()
    by_hand = feature_distance(classifier.layers(student), classifier.layers(target))
    torch.testing.assert_close(loss.value, by_hand.mean())
    assert student.requires_grad
    assert not target.requires_grad


def test_training_mode_and_autocast_leave_the_network_alone(folder):
    distance = distance_of(CDSettings(distance=named(folder)).distance).train()
    a, b = torch.randn(2, 4, *SHAPE).bfloat16().float().unbind()
    state = copy.deepcopy(distance.state_dict())
    wanted = feature_distance(*(TrainedClassifier(str(folder)).eval().layers(x) for x in (a, b)))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            distance(a.bfloat16(), b.bfloat16()), distance(a.bfloat16().float(), b.bfloat16().float())
        )
        torch.testing.assert_close(distance(a, b), wanted)
    assert all(torch.equal(v, state[k]) for k, v in distance.state_dict().items())


def test_another_file_does_not_change_a_run_that_goes_on(tmp_path):
    """The network is part of the method's state, which a checkpoint keeps."""
    method = made(CD, write(tmp_path / "first"))
    ready, model, _ = prepared(method)
    wanted, state = loss_of(ready, model).value, ready.state_dict()
    write(tmp_path / "first", seed=1)
    again, _, _ = prepared(method)
    assert not torch.equal(loss_of(again, model).value, wanted)
    again.load_state_dict(state)
    torch.testing.assert_close(loss_of(again, model).value, wanted, rtol=0, atol=0)


def test_element_distances_stay_what_they_were():
    ready, _, _ = prepared(CD())
    assert isinstance(ready.distance, ElementDistance)
    assert not ready.distance.state_dict()
    assert registry.names("feature_networks") == ["classifier"]


def config(distance):
    return {
        "modality": {"name": "image", "size": [8, 8], "channels": 1},
        "data": {"name": "digits"},
        "method": {"name": "cd", "distance": distance},
        "init": "x",
    }


def test_a_resolved_config_names_the_network(folder):
    method = resolve(config(named(folder))).method
    assert method.settings["distance"] == named(folder)
    assert CDSettings(**method.settings) == CDSettings(distance=named(folder))


@pytest.mark.parametrize(
    ("distance", "told"),
    [
        ("hubber", "distance = 'hubber': expected one of l2, l1, huber, elementwise-huber, or a feature network"),
        ({"path": "x"}, "expected one of l2"),
        ({"name": "classifer", "path": "x"}, "unknown feature network 'classifer'"),
        ({"name": "classifier"}, "missing key 'path'"),
        ({"name": "classifier", "pth": "x"}, "unknown key 'pth' (did you mean 'path'?)"),
    ],
)
def test_mistakes_are_told_with_the_key(distance, told):
    with pytest.raises(UserError) as error:
        resolve(config(distance))
    assert told in str(error.value)
    assert "distance" in str(error.value)
    assert "\n" not in str(error.value)


def damaged(folder: Path, how: str) -> None:
    about = json.loads((folder / CONFIG).read_text())
    if how == "no folder":
        (folder / CONFIG).unlink()
    elif how == "no weights":
        (folder / WEIGHTS).unlink()
    elif how == "cut weights":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    elif how == "not JSON":
        (folder / CONFIG).write_text("{")
    elif how == "other shape":
        (folder / CONFIG).write_text(json.dumps(about | {"shape": [2, 4, 6]}))
    elif how == "vast":
        (folder / CONFIG).write_text(json.dumps(about | {"shape": [100000, 100000, 100000]}))
    elif how == "other format":
        (folder / CONFIG).write_text(json.dumps(about | {"format": 2}))
    elif how == "unknown key":
        (folder / CONFIG).write_text(json.dumps(about | {"code": "x"}))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("no folder", "no such file; expected what `cmmulti classifier` wrote"),
        ("no weights", "no such file"),
        ("cut weights", "damaged weights"),
        ("not JSON", "not valid JSON"),
        ("other shape", "of another architecture"),
        ("vast", "expected at most"),
        ("other format", "this version reads format 1"),
        ("unknown key", "unknown key 'code'"),
    ],
)
def test_bad_folders_are_refused_by_name(how, told, tmp_path):
    folder = write(tmp_path / "features")
    damaged(folder, how)
    with pytest.raises(UserError) as error:
        TrainedClassifier(str(folder))
    assert told in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_classifier_of_other_tensors_is_refused(tmp_path):
    method = made(CD, write(tmp_path / "colour", (3, 4, 6)))
    ready, model, _ = prepared(method)
    with pytest.raises(UserError, match=r"toys does not take tensors of shape \(1, 4, 6\); it was trained on \(3, 4, 6\)"):
        loss_of(ready, model)


def test_labels_are_still_heard(folder):
    """A feature distance is between two estimates of one condition."""
    ready, model, _ = prepared(made(CD, folder))
    x0 = torch.randn(8, *SHAPE)
    values = [
        ready.loss(model, x0, Condition(label=torch.full((8,), label)), at(3), TrainingRandomness(0, 3)).value
        for label in (0, 1)
    ]
    assert not torch.equal(*values)


class Coloured(nn.Module):
    """Somebody's network, which says what it cannot take in PyTorch's own words."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)

    def layers(self, x):
        return [self.conv(x)]


def test_what_somebodys_feature_network_cannot_take_is_told_before_the_run(monkeypatch):
    monkeypatch.setattr("cmmulti.registry.load", lambda group, name: Coloured)
    with pytest.raises(
        UserError, match=r"^method\.distance: coloured: .*negative dimension -4.* \(settings {'width': -4}\)"
    ):
        distance_of(PieceConfig.of("coloured", {"width": -4}))
    method = SimpleNamespace(distance=distance_of(PieceConfig.of("coloured", {})))
    check_distance(method, SimpleNamespace(name="toy", shape=(3, 4, 6)))
    with pytest.raises(UserError, match=r"^method\.distance: does not take toy tensors of shape \(1, 4, 6\): .*3 channels"):
        check_distance(method, SimpleNamespace(name="toy", shape=(1, 4, 6)))
    check_distance(SimpleNamespace(), SimpleNamespace(name="toy", shape=(1, 4, 6)))
