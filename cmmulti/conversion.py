"""Models of others as model folders: a diffusers folder with a ``UNet2DModel`` and the schedule it was trained on.

Nothing is executed and no pickle is read: JSON and safetensors alone. The process, its times and its highest noise level
come from the scheduler's configuration, everything else from the network's (DDPM arXiv 2006.11239, v-prediction 2202.00512,
flow matching 2210.02747; what they become is in docs/mathematics.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError

from cmmulti import registry
from cmmulti.config.text import with_overrides
from cmmulti.errors import UserError
from cmmulti.files import read_json
from cmmulti.nn.diffusers import library
from cmmulti.noise import SIGMA_MAX
from cmmulti.pipeline import Pipeline, PipelineConfig
from cmmulti.pipeline.config import Piece

PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
NOT_SETTINGS = ("in_channels", "out_channels", "num_class_embeds", "sample_size")
"""Arguments of UNet2DModel that the adapter derives from its own settings, and the size, which is the modality's."""

STUDENTS = ("LCMScheduler", "TCDScheduler", "FlowMatchLCMScheduler")
"""Schedulers of the same processes for networks that no longer answer with the mean of what is clean."""

MOST_STEPS = 1_000_000
"""Longest table of times that is made: a config may ask for any."""


class Process(NamedTuple):
    """What a scheduler's configuration says: the parameterization, the highest level, a factor from its time to steps."""

    form: Piece
    sigma_max: float
    time_scale: float = 1.0


def from_diffusers(
    folder: Path,
    modality: str = "image",
    settings: Iterable[str] = (),
    null_class: bool = False,
    sigma_max: float | None = None,
) -> Pipeline:
    """A denoising teacher from a diffusers folder: a pipeline's, or one that holds the two configurations itself.

    Args:
        modality, settings: the adapter and its settings as ``key=value``; size, channels and classes are the network's.
        null_class: the last class is "no class", so that the model can be guided.
        sigma_max: highest noise level; None is the schedule's last, at most 80.

    Raises:
        UserError: no such model, no safetensors, weights that are not the network's, or a process that is not known.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder of a diffusers model")
    network = folder / "unet" if (folder / "unet").is_dir() else folder
    unet, config = load_unet(network)
    place = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    process = read_process(place / "scheduler_config.json")
    steps, told = (
        max(len(process.form.settings.get("alphas_cumprod", ())), process.time_scale),
        config["num_train_timesteps"],
    )
    if config["time_embedding_type"] == "learned" and told < steps:
        table = f"expected at least {steps:g}, the steps of the schedule in {place}"
        raise UserError(f"{network / 'config.json'}: num_train_timesteps = {told}; {table}")
    highest = process.sigma_max if sigma_max is None else sigma_max
    if not 0 < highest <= process.sigma_max:
        raise UserError(f"sigma_max = {sigma_max:g}: expected a level up to {process.sigma_max:g}, the schedule's last")
    embedded = config["num_class_embeds"] or 0
    classes = embedded - 1 if null_class else embedded
    if null_class and classes < 1:
        raise UserError(f"{network}: expected a network of classes, the last of which is none; it has {embedded}")
    made = PipelineConfig(
        name=folder.resolve().name,
        modality=Piece(name=modality, settings=_modality_settings(modality, config, classes, settings)),
        network=_network(config, classes, process.time_scale),
        parameterization=process.form,
        role="teacher",
        method="diffusers",
        sigma_max=min(highest, SIGMA_MAX) if sigma_max is None else highest,
        classes=[str(i) for i in range(classes)],
        unconditional=null_class or not classes,
    )
    model, adapter = made.build_model(), made.build_modality()
    state = {f"unet.{name}": tensor for name, tensor in unet.items()}
    if classes and not null_class:
        # Nobody trained it without a class; the mean of its classes is where such training begins.
        known = state["unet.class_embedding.weight"]
        state["unet.class_embedding.weight"] = torch.cat([known, known.mean(0, keepdim=True)])
    model.network.load_state_dict(state)
    if (made.network.settings["in_channels"], 2) != (adapter.shape[0], len(adapter.shape) - 1):
        raise UserError(f"{network}: takes {config['in_channels']} channels in 2D, {modality} tensors are {adapter.shape}")
    if (said := getattr(adapter.settings, "classes", classes)) != classes:
        raise UserError(f"{network}: knows {classes} classes; the {modality} settings say classes = {said}")
    return Pipeline(model.eval(), adapter, made, _card(made, classes and not null_class))


def load_unet(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and configuration of a UNet2DModel.

    Raises:
        UserError: the weights are missing, pickled, damaged, or do not fill the network exactly.
    """
    declared = read_json(folder / "config.json", "a configuration of diffusers")
    _refuse_unknown(folder / "config.json", declared)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = next((p for pattern in ("*.bin", "*.pt", "*.ckpt") for p in folder.glob(pattern)), None)
        found = f"{pickled.name} is a pickle, which is never loaded" if pickled else "none found"
        raise UserError(f"{folder}: expected weights in one safetensors file; {found}")
    # The plain file goes before its variants: of half the precision, or without the average (fp16, non_ema).
    plain = "diffusion_pytorch_model"
    files.sort(key=lambda file: file.stem != plain)
    variant = files[0].name.removeprefix(plain).removesuffix(".safetensors").strip(".")
    diffusers = library()
    try:
        with _quiet():
            unet, told = diffusers.UNet2DModel.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                variant=variant or None,
                output_loading_info=True,
            )
    except Exception as error:  # what diffusers and safetensors raise has no common class
        raise UserError(f"{files[0]}: cannot be loaded ({' '.join(str(error).split())})") from error
    for kind in ("missing", "unexpected", "mismatched"):
        if names := told[f"{kind}_keys"]:
            raise UserError(f"{files[0]}: of another architecture than config.json: {len(names)} {kind}, first {names[0]}")
    state = unet.state_dict()
    if bad := next((name for name, tensor in state.items() if not bool(tensor.isfinite().all())), None):
        raise UserError(f"{files[0]}: {bad} holds NaN or infinity; expected finite weights")
    return state, {k: v for k, v in dict(unet.config).items() if not k.startswith("_")}


def read_process(path: Path) -> Process:
    """The process of ``scheduler_config.json``.

    Raises:
        UserError: it is missing, or of a kind that has no map here.
    """
    config = read_json(path, "a configuration of diffusers")
    diffusers = library()
    name = str(config.get("_class_name"))
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise UserError(f"{path}: _class_name = {name!r}; expected a scheduler of diffusers")
    if name in STUDENTS:
        raise UserError(f"{path}: {name} samples a distilled network, no denoiser; expected the model it came from")
    for key in ("thresholding", "invert_sigmas"):
        if config.get(key):
            raise UserError(f"{path}: {key} = {config[key]!r}; expected false, for there is no map of it here")
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise UserError(f"{path}: num_train_timesteps = {steps!r}; expected 1 to {MOST_STEPS}")
    if name.startswith("FlowMatch"):
        return Process(Piece(name="flow"), SIGMA_MAX, float(steps))
    try:
        with _quiet():
            scheduler: Any = kind.from_config(config)  # type: ignore[attr-defined]  # found by name
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as a diffusers scheduler ({' '.join(str(error).split())})") from error
    prediction = str(scheduler.config.get("prediction_type", "epsilon"))
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UserError(f"{path}: {name}; expected a scheduler of DDPM's process or of flow matching")
    if prediction == "v_prediction" and scheduler.config.get("timestep_type", "discrete") != "discrete":
        # Its network is told ln(sigma) / 4; of other predictions diffusers tells the index all the same.
        raise UserError(f"{path}: timestep_type = {scheduler.config['timestep_type']!r}; expected 'discrete'")
    if prediction not in PREDICTIONS:
        raise UserError(f"{path}: prediction_type = {prediction!r}; expected one of {', '.join(PREDICTIONS)}")
    # In float64 from the betas: at the first index 1 - alpha-bar has lost half of its digits in float32.
    bars = [float(b) for b in torch.cumprod(1 - scheduler.betas.double(), 0) if b > 0]
    if len(bars) < 2 or not all(1 > a > b for a, b in pairwise(bars)):
        raise UserError(
            f"{path}: its betas give no alphas_cumprod that fall inside (0, 1); expected a schedule that adds noise"
        )
    if not torch.allclose(scheduler.alphas_cumprod[: len(bars)].double(), torch.tensor(bars).double(), atol=1e-4):
        raise UserError(f"{path}: {name}; its alphas_cumprod are not its betas' products, and there is no map of them here")
    clip = float(scheduler.config.clip_sample_range) if scheduler.config.get("clip_sample") else None
    form = {"alphas_cumprod": bars, "prediction": PREDICTIONS[prediction], "clip": clip}
    return Process(Piece(name="ddpm", settings=form), ((1 - bars[-1]) / bars[-1]) ** 0.5)


def _refuse_unknown(path: Path, config: Mapping[str, Any]) -> None:
    expected = {"_class_name": "UNet2DModel", "class_embed_type": None, "center_input_sample": False}
    for key, value in expected.items():
        if config.get(key, value) != value or (key == "_class_name" and key not in config):
            raise UserError(f"{path}: {key} = {config.get(key)!r}; expected {value!r}")
    if (timing := config.get("time_embedding_type", "positional")) not in ("positional", "learned"):
        raise UserError(f"{path}: time_embedding_type = {timing!r}; expected 'positional' or 'learned'")
    channels, out = config.get("in_channels", 3), config.get("out_channels", 3)
    if out not in (channels, 2 * channels):
        raise UserError(f"{path}: out_channels = {out}; expected {channels}, or {2 * channels} with a learned variance")


def _network(config: Mapping[str, Any], classes: int, time_scale: float) -> Piece:
    """The registered network that holds a UNet2DModel of this configuration."""
    return Piece(
        name="diffusers",
        settings={
            "in_channels": config["in_channels"],
            "unet": {k: v for k, v in config.items() if k not in NOT_SETTINGS},
            "classes": classes,
            "learned_variance": config["out_channels"] != config["in_channels"],
            "time_scale": time_scale,
            "whole_times": config["time_embedding_type"] == "learned",
        },
    )


def _modality_settings(name: str, config: Mapping[str, Any], classes: int, given: Iterable[str]) -> dict[str, Any]:
    known = registry.load("modalities", name).Settings.model_fields
    size = config["sample_size"]
    size = list(size) if isinstance(size, (list, tuple)) else size
    if isinstance(size, int) and "size" in known:
        annotation: Any = known["size"].annotation
        try:
            TypeAdapter(annotation).validate_python(size)
        except ValidationError:
            size = [size, size]  # of an adapter that knows sizes along each axis alone
    told = {"size": size, "channels": config["in_channels"], "classes": classes}
    settings = with_overrides({k: v for k, v in told.items() if k in known and v is not None}, given)
    if "size" in known and "size" not in settings:
        raise UserError("sample_size: the network's config has none; expected --set size=N or --set size=[HEIGHT,WIDTH]")
    return settings


@contextmanager
def _quiet() -> Iterator[None]:
    """diffusers tells at length what is refused here in one line."""
    logger = logging.getLogger("diffusers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _card(config: PipelineConfig, guessed: bool | int) -> str:
    form = config.parameterization
    what = form.settings.get("prediction", "velocity")
    notes = "\nIts estimate without a class is that of the mean of its classes: nobody trained it.\n" if guessed else ""
    return (
        "---\nlibrary_name: cmmulti\nlicense: other\ntags:\n- diffusion\n- diffusers\n---\n"
        f"# {config.name}\n\nA denoising teacher made from a diffusers model by `cmmulti convert`: it predicts {what} in "
        f"the form `{form.name}`, up to sigma = {config.sigma_max:g}.\n{notes}\n"
        "Use: `cmmulti sample FOLDER --n 16 --steps 18 --seed 0 --out DIR`.\n\n"
        "Licence: for the publisher to fill in; that of the model it was made from goes on.\n"
    )
