"""What a student may start from."""

from types import SimpleNamespace

import pytest
import torch

from cmmulti.errors import UserError
from cmmulti.model import Model
from cmmulti.nn.translated import Translated
from cmmulti.nn.unet import UNet
from cmmulti.parameterization import KINDS
from cmmulti.training.inheritance import copy_weights

SETTINGS = {"dims": 2, "channels": [8, 8]}


def network(**settings):
    made = UNet(**{**SETTINGS, **settings})
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def source(kind="edm", **settings):
    names = SimpleNamespace(
        network=SimpleNamespace(name="unet", settings={**SETTINGS, **settings}),
        parameterization=SimpleNamespace(name=kind),
    )
    return SimpleNamespace(model=Model(network(**settings), KINDS[kind](0.5)), config=names)


def started(theirs, kind="edm", method=None, **settings):
    model = Model(network(**settings), KINDS[kind](0.5), "consistency")
    config = SimpleNamespace(
        init="teacher",
        network=SimpleNamespace(name="unet", settings={**SETTINGS, **settings}),
        method=SimpleNamespace(name="sct", settings=method or {}),
    )
    copy_weights(theirs, model, config)
    return model


@pytest.mark.parametrize("settings", [{}, {"two_times": True}, {"guided": True}, {"two_times": True, "guided": True}])
def test_a_student_begins_as_its_teacher(settings):
    """Whatever it is told beyond the teacher's inputs."""
    from cmmulti.conditioning import Condition

    theirs = source()
    model = started(theirs, **settings)
    x, time = torch.randn(2, 1, 4, 6), torch.tensor([0.1, 0.9])
    condition = Condition(guidance=torch.tensor([1.0, 5.0]))
    told = (time, condition, time / 2) if "two_times" in settings else (time, condition)
    torch.testing.assert_close(model.network(x, *told), theirs.model.network(x, time))


@pytest.mark.parametrize("kind", ["edm", "trigflow"])
def test_a_student_of_one_time_begins_as_a_two_time_model_denoises(kind):
    """``network: {name: init}`` keeps the second time, of which the student's method knows nothing."""
    theirs = source(two_times=True)
    theirs.model.role = "two-time"
    form, own = KINDS[kind](0.5), theirs.model.parameterization
    if kind == "edm":
        model = started(theirs, two_times=True)
    else:
        told = {"name": "unet", "settings": {**SETTINGS, "two_times": True}}
        twin = Translated(told, *({"name": f.kind, "settings": {"sigma_data": 0.5}} for f in (own, form)))
        twin.network.load_state_dict(theirs.model.network.state_dict())
        model = Model(twin, form, "consistency")
    x, sigma = torch.randn(2, 1, 4, 6), torch.tensor([0.3, 20.0])
    torch.testing.assert_close(model.endpoint(x, sigma), theirs.model.denoise(x, sigma), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "allowed"), [("consistency", True), ("edm", True), ("trigflow", False)])
def test_the_form_must_be_the_same(kind, allowed):
    if allowed:
        started(source(), kind)
        return
    with pytest.raises(
        UserError,
        match=r"form 'edm', expected 'trigflow' for method sct.* another function; network: \{name: init\} translates it$",
    ):
        started(source(), kind)
    with pytest.raises(UserError, match=r"set method\.form = edm$"):
        started(source(), kind, {"form": "trigflow"})


def test_the_scale_must_be_the_same():
    """It is in every coefficient: with another one the weights are another denoiser."""
    theirs = source()
    theirs.model.parameterization = KINDS["edm"](0.3)
    with pytest.raises(UserError, match=r"^sigma_data = 0\.5: expected 0\.3, that of init = 'teacher', or null"):
        started(theirs)


def test_a_form_that_no_translation_helps_is_told_without_one():
    """A translated network has one time, and methods of two need both."""
    theirs = source(two_times=True)
    model = Model(network(two_times=True), KINDS["flow"](), "two-time")
    settings = SimpleNamespace(name="unet", settings={**SETTINGS, "two_times": True})
    config = SimpleNamespace(init="teacher", network=settings, method=SimpleNamespace(name="meanflow", settings={}))
    with pytest.raises(UserError, match=r"the same weights would be another function$"):
        copy_weights(theirs, model, config)


@pytest.mark.parametrize(
    "settings", [{"classes": 3}, {"classes": 3, "guided": True}, {"channels": [8, 16], "guided": True}]
)
def test_other_differences_are_refused(settings):
    with pytest.raises(UserError, match="of another architecture"):
        started(source(), **settings)


def test_a_network_that_lacks_the_second_time_of_its_start_is_told_the_way():
    with pytest.raises(UserError, match=r"another architecture .* network: \{name: init\} starts from it as it denoises$"):
        started(source(two_times=True))
