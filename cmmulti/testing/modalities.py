"""The contract of modalities."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from cmmulti import registry
from cmmulti.errors import UserError
from cmmulti.media import Picture, Player
from cmmulti.modality import DataSource, Modality
from cmmulti.operators.affine import Affine
from cmmulti.randomness import SampleRandomness
from cmmulti.testing.data import apart, same_each_time
from cmmulti.testing.suite import Suite, fail_unless


@dataclass(frozen=True)
class ModalityCase:
    """An adapter with a good file of its kind.

    Args:
        modality: with settings under which the file can be encoded. file: small, in a format that can be written too.
        error: largest RMS difference in model space that ``encode(decode(x))`` may make.
        writable: suffix of the format in which the item is saved; default the file's own.
        data: a small data set with all three splits; without one, what an adapter says of data is not checked.
    """

    modality: Modality
    file: Path
    error: float
    writable: str | None = None
    data: DataSource | None = None

    def item(self) -> Any:
        return self.modality.load(self.file)

    def randomness(self, parts: int) -> SampleRandomness:
        return SampleRandomness([(0, part) for part in range(parts)])

    def suffix(self) -> str:
        return self.writable or "".join(self.file.suffixes)


_WORDS = (
    "model task input reference samples steps levels seed label context guidance sampler device out overwrite json help "
    "card classifier_steps data data_option dataset n search_levels split teacher tune tune_n"
)
TAKEN = frozenset(_WORDS.split())
"""What the commands that run tasks are told themselves; a task's option of that name could not be given."""

check_modality: Suite[ModalityCase] = Suite("modality")
"""``check_modality(ModalityCase(MyModality(MySettings()), Path("good.wav"), error=0.05))``."""


@check_modality.check
def encodes_as_promised(case: ModalityCase) -> None:
    """(parts, C, *spatial) float32, finite, inside ``valid_range``, the same every time."""
    x, shape = case.modality.encode(case.item()), case.modality.shape
    fail_unless(x.dtype == torch.float32, f"encode gives {x.dtype}, expected float32")
    fail_unless(x.dim() == len(shape) + 1 and x.shape[1] == shape[0], f"encode gives {tuple(x.shape)}, shape is {shape}")
    fail_unless(len(x) >= 1 and bool(x.isfinite().all()), "encode gives nothing or something that is not finite")
    if case.modality.valid_range is not None:
        low, high = case.modality.valid_range
        fail_unless(float(x.min()) >= low - 1e-5 and float(x.max()) <= high + 1e-5, "encode leaves valid_range")
    fail_unless(torch.equal(x, case.modality.encode(case.item())), "encoding twice gives two tensors")


@check_modality.check
def decoding_undoes_encoding(case: ModalityCase) -> None:
    """``encode(decode(x, like=item))`` is x within the stated error."""
    item = case.item()
    x = case.modality.encode(item)
    decoded = case.modality.decode(x.clone(), like=item, randomness=case.randomness(len(x)))
    again = case.modality.encode(decoded)
    fail_unless(again.shape == x.shape, f"{tuple(x.shape)} comes back as {tuple(again.shape)}")
    error = float((again - x).square().mean().sqrt())
    fail_unless(error <= case.error, f"encode(decode(x)) differs from x by {error:.3g} RMS, stated {case.error:g}")


@check_modality.check
def files_lose_nothing(case: ModalityCase) -> None:
    """load -> save -> load: the same representation bit for bit and the same facts; nothing else is left in the folder."""
    with _folder() as folder:
        item = case.item()
        written = case.modality.save(item, folder / f"copy{case.suffix()}")
        fail_unless(written.is_file(), f"save returns {written.name}, which is no file")
        fail_unless([p.name for p in folder.iterdir()] == [written.name], "save leaves other files beside its own")
        same = torch.equal(case.modality.encode(case.modality.load(written)), case.modality.encode(item))
        fail_unless(same, "a saved and reloaded item has another representation")
        if case.suffix() == "".join(case.file.suffixes):
            before, after = case.modality.describe(case.file), case.modality.describe(written)
            before, after = (_of_the_item(path, facts) for path, facts in ((case.file, before), (written, after)))
            changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
            fail_unless(not changed, f"saving and loading changes {changed}")


@check_modality.check
def generated_items_can_be_written(case: ModalityCase) -> None:
    """A tensor of ``shape`` decodes without ``like``, is saved with ``extension``, and a reader opens it."""
    low, high = case.modality.valid_range or (-1.0, 1.0)
    x = torch.rand(1, *case.modality.shape, generator=torch.Generator().manual_seed(0)) * (high - low) * 0.6 + low
    first = case.modality.decode(x.clone(), randomness=case.randomness(1))
    second = case.modality.decode(x.clone(), randomness=case.randomness(1))
    same = torch.equal(case.modality.encode(first), case.modality.encode(second))
    fail_unless(same, "decoding twice with the same seeds gives two items")
    with _folder() as folder:
        written = case.modality.save(first, folder / f"made{case.modality.extension}")
        fail_unless(written.name.endswith(case.modality.extension), f"{written.name} has another suffix than `extension`")
        back = case.modality.encode(case.modality.load(written))
    fail_unless(back.shape == x.shape, f"a made item of shape {tuple(x.shape)} reads back as {tuple(back.shape)}")


@check_modality.check
def bad_files_are_named(case: ModalityCase) -> None:
    """Missing, empty, truncated, foreign and unreadable paths end in a one-line UserError that names the file."""
    whole = case.file.read_bytes()
    suffix = "".join(case.file.suffixes)
    with _folder() as folder:
        bad = {"empty": b"", "foreign": b"this is no such file\n" * 20, "stub": whole[:3]}
        bad |= {f"cut-{i}": whole[: len(whole) * i // 10] for i in (2, 5, 8)}
        for name, content in bad.items():
            (folder / f"{name}{suffix}").write_bytes(content)
        (folder / f"folder{suffix}").mkdir()
        for name in (*bad, "missing"):
            path = folder / f"{name}{suffix}"
            error = _refusal(lambda p=path: case.modality.encode(case.modality.load(p)))
            if error is None and name.startswith("cut"):
                continue  # a format without a length may read a shorter item
            fail_unless(error is not None, f"a file that is {name} is read")
            fail_unless(name in str(error), f"the error about a file that is {name} does not name it: {error}")


@check_modality.check
def flipped_bits_do_no_harm(case: ModalityCase) -> None:
    """Any flipped bit ends in a UserError or in a finite representation."""
    whole = bytearray(case.file.read_bytes())
    generator = torch.Generator().manual_seed(0)
    with _folder() as folder:
        path = folder / f"flipped{''.join(case.file.suffixes)}"
        for _ in range(24):
            at = int(torch.randint(len(whole) * 8, (), generator=generator))
            # Half of the flips hit the first bytes, where headers are.
            at = at % (8 * 400) if at % 2 else at
            flipped = bytearray(whole)
            flipped[at // 8] ^= 1 << (at % 8)
            path.write_bytes(flipped)
            found: list[Tensor] = []
            refusal = _refusal(lambda kept=found: kept.append(case.modality.encode(case.modality.load(path))))
            if refusal is None:
                fail_unless(bool(found[0].isfinite().all()), f"with bit {at} flipped the representation is not finite")


@check_modality.check
def unwritable_places_are_named(case: ModalityCase) -> None:
    """Saving where no file can be is a UserError and leaves nothing behind."""
    with _folder() as folder:
        (folder / "file").write_bytes(b"")
        error = _refusal(lambda: case.modality.save(case.item(), folder / "file" / f"out{case.suffix()}"))
        fail_unless(error is not None, "saving below a file is not refused")
        fail_unless([p.name for p in folder.iterdir()] == ["file"], "a refused save leaves files behind")


@check_modality.check
def broken_tensors_are_refused(case: ModalityCase) -> None:
    """NaN, infinity, nothing at all and a wrong rank are not decoded."""
    x = case.modality.encode(case.item())
    for name, bad in {
        "NaN": torch.full_like(x, float("nan")),
        "infinity": torch.full_like(x, float("inf")),
        "an empty tensor": x[:0],
        "a tensor of another rank": x[..., 0],
    }.items():
        try:
            case.modality.decode(bad, randomness=case.randomness(max(1, len(bad))))
        except (UserError, ValueError):
            continue
        raise AssertionError(f"{name} is decoded")


@check_modality.check
def affine_as_said(case: ModalityCase) -> None:
    """Where the representation is affine, ``to_model(to_item(x))`` is x inside the item, and the padding is elsewhere."""
    item = case.item()
    affine = case.modality.affine(item)
    if affine is None:
        return
    x = case.modality.encode(item)
    size = x.shape[2:]
    again = affine.to_model(affine.to_item(x.double()), size, fill=0.0)
    error = float(((again - x) * affine.inside(size)).abs().max())
    fail_unless(error < 1e-4, f"to_model(to_item(x)) is off by {error:.2g}")


@check_modality.check
def units_come_back(case: ModalityCase) -> None:
    """Where the representation is affine, a decoded item holds the values of its model, in their units.

    Where each item has a gain of its own, one that was decoded without it has the same representation nevertheless.
    """
    item = case.item()
    affine = case.modality.affine(item)
    if affine is None:
        return
    x = case.modality.encode(item)
    decoded = case.modality.decode(x.clone(), like=item, randomness=case.randomness(len(x)))
    there = case.modality.affine(decoded)
    fail_unless(there is not None, "affine(item) is None for a decoded item only")
    before, after = affine.to_item(x.double()), cast(Affine, there).to_item(case.modality.encode(decoded).double())
    fail_unless(before.shape == after.shape, f"values {tuple(before.shape)} come back as {tuple(after.shape)}")
    error, stated = float((after - before).square().mean().sqrt()), case.error * float(affine.gain.abs().max())
    fail_unless(error <= stated, f"a decoded item's values are off by {error:.3g} RMS in its units, stated {stated:.3g}")


@check_modality.check
def settings_travel(case: ModalityCase) -> None:
    """Settings through JSON make the same adapter; an unknown key is refused."""
    kind, modality = type(case.modality), case.modality
    again = kind(kind.Settings.model_validate_json(modality.settings.model_dump_json()))
    fail_unless(again.shape == modality.shape, "settings through JSON make another shape")
    fail_unless(
        torch.equal(again.encode(case.item()), modality.encode(case.item())), "settings through JSON encode otherwise"
    )
    try:
        kind.Settings(no_such_setting=1)  # type: ignore[call-arg]
    except ValueError:
        return
    raise AssertionError("an unknown setting is not refused")


@check_modality.check
def its_card_can_be_written(case: ModalityCase) -> None:
    """``specification`` says in one line each what a model of these settings takes and makes."""
    told = case.modality.specification()
    fail_unless(len(told) > 0, "specification() says nothing")
    for name, value in told.items():
        fail_unless(isinstance(value, str), f"specification: {name} is of type {type(value).__name__}, expected str")
        fail_unless(bool(name.strip() and value.strip()), f"specification: {name!r} is empty")
        fail_unless("\n" not in name + value, f"specification: {name!r} has more than one line")


@check_modality.check
def default_network_fits(case: ModalityCase) -> None:
    """``network()`` makes a U-Net for tensors of ``shape``."""
    settings, shape = case.modality.network(), case.modality.shape
    with torch.device("meta"):
        network = registry.load("networks", "unet")(**settings)
        x = torch.zeros(1, *shape)
        fail_unless(network(x, torch.zeros(1)).shape == x.shape, f"the default network does not return {shape}")


@check_modality.check
def tasks_say_what_they_are(case: ModalityCase) -> None:
    """Every task has a verb, a summary and described options under its own name; another name is refused."""
    for name, task in case.modality.tasks.items():
        fail_unless(task.name == name and task.verb in ("edit", "reconstruct"), f"task {name!r}: name or verb is wrong")
        fail_unless(bool(task.summary), f"task {name!r} has no summary")
        silent = [k for k, f in task.Options.model_fields.items() if not f.description]
        fail_unless(not silent, f"task {name!r}: options without a description: {', '.join(silent)}")
        taken = sorted(TAKEN & set(task.Options.model_fields))
        fail_unless(not taken, f"task {name!r}: options that the commands have themselves: {', '.join(taken)}")
    error = _refusal(lambda: case.modality.task("no-such-task", "edit"))
    fail_unless(error is not None, "an unknown task is not refused with a UserError")


@check_modality.check
def it_can_be_looked_at(case: ModalityCase) -> None:
    """Two panels render to pictures and players that carry a file."""
    item = case.item()
    media = case.modality.render({"input": item, "result": item}, reference="input")
    fail_unless(len(media) > 0, "nothing is rendered")
    for m in media:
        fail_unless(isinstance(m, Picture | Player), f"{type(m).__name__} is neither Picture nor Player")
        if isinstance(m, Picture):
            fail_unless(m.png.startswith(b"\x89PNG"), "a picture is no PNG")


@check_modality.check
def missing_data_are_named(case: ModalityCase) -> None:
    """A data set that is not there is a UserError that names it or its folder."""
    with _folder() as folder:
        error = _refusal(lambda: case.modality.dataset(DataSource(name="no-such-set", root=folder), "train"))
        fail_unless(error is not None, "a data set that is not there is not refused")
        fail_unless("no-such-set" in str(error) or str(folder) in str(error), f"the error does not name it: {error}")


@check_modality.check
def data_are_those_of_their_source(case: ModalityCase) -> None:
    """A split is the same each time, whatever the global generators hold; augmentation draws from its generator alone."""
    if case.data is not None:
        same_each_time(case.modality, case.data)


@check_modality.check
def splits_are_apart(case: ModalityCase) -> None:
    """No item of one split is in another: by name, and by the tensors of the first hundred of each."""
    if case.data is not None:
        apart(case.modality, case.data)


def _of_the_item(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """``facts`` without those about the place of the file."""
    return {k: v for k, v in facts.items() if path.name not in str(v) and v != path.name.split(".")[0]}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _refusal(action: Any) -> UserError | None:
    """The UserError that ``action`` ends in, checked to be one line; None where it ends well."""
    try:
        action()
    except UserError as error:
        fail_unless("\n" not in str(error), "an error has more than one line")
        return error
    except Exception as error:
        raise AssertionError(f"ends in {type(error).__name__} ({error}) instead of a UserError") from error
    return None
