"""The page and the results file of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cmmulti.evaluation.generation import Figures, SampleSet
from cmmulti.evaluation.statistics import Estimate
from cmmulti.evaluation.study import Study
from cmmulti.evaluation.task import Scores, TaskRun
from cmmulti.media import Media
from cmmulti.modality import Item, Modality
from cmmulti.pipeline import Pipeline
from cmmulti.randomness import SampleRandomness
from cmmulti.report.results import Table
from cmmulti.report.sections import Section

SHOWN = 8
FLOOR = "Held-out items are real ones that no model saw; a distance below theirs comes of being nearer to training items."


def flat_metrics(row: Figures) -> dict[str, float | None]:
    """The figures of one row by the names that ``metrics`` and ``baselines`` of the results file use."""
    values = {
        "accuracy": None if row.accuracy is None else row.accuracy.value,
        "frechet": row.frechet.value,
        "precision": row.precision,
        "recall": row.recall,
        "nearer": row.nearer,
        "copied": row.copied,
    }
    return {name: value for name, value in values.items() if value is not None}


def title(row: Figures) -> str:
    """``model, 2 steps``; the floor has no steps."""
    return row.name if row.steps is None else f"{row.name}, {row.steps} step{'s' * (row.steps > 1)}"


def generation_sections(result: Study, pipeline: Pipeline) -> list[Section]:
    """Figures beside their floor, samples to look at, and the samples nearest to a training item."""
    best = result.samples[-1] if len(result.samples) == 1 else max(_own(result), key=lambda s: s.steps)
    sections = [Section("Figures", _figures_text(result), tables=[generation_table(result)])]
    for samples in _own(result):
        shown = f"Samples in {samples.steps} step{'s' * (samples.steps > 1)}"
        sections.append(Section(shown, media=samples_media(pipeline.modality, samples)))
    sections.append(
        Section(
            "Nearest training items",
            "The samples that lie nearest to one training item alone, each beside that item. A share of samples under "
            "“copied” far above 1 % would mean that the model repeats training items.",
            media=nearest_media(pipeline.modality, result, best),
        )
    )
    return sections


def generation_table(result: Study) -> Table:
    shares = ("precision", "recall", "nearer", "copied")
    columns = ["", "NFE", "N", "accuracy", "frechet", "frechet_matched", *shares]
    rows = [_cells(row) for row in (*result.rows, result.floor)]
    return Table(caption=FLOOR, columns=columns, rows=rows)


def task_sections(run: TaskRun, pipeline: Pipeline) -> list[Section]:
    """Figures of a task beside its simpler answers, and one example."""
    reference = "truth" if run.example.truth is not None else None
    media = pipeline.render(run.example.panels(), reference, run.example.mark)
    return [
        Section("Figures", "Means over the items, with 95 % intervals.", tables=[task_table(run.rows)]),
        Section("One of the items", media=media),
    ]


def task_table(rows: Sequence[Scores]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.each))
    cells: list[list[float | str | None]] = [
        [row.name, "" if row.nfe is None else str(row.nfe), *(with_interval(row.metrics.get(name)) for name in names)]
        for row in rows
    ]
    return Table(columns=["", "NFE", *names], rows=cells)


def samples_media(modality: Modality, samples: SampleSet) -> list[Media]:
    """The first few samples, captioned by what was asked for."""
    panels: dict[str, Item] = {}
    for i in range(min(SHOWN, len(samples.x))):
        label = "" if samples.labels is None else f", class {int(samples.labels[i])}"
        panels[f"sample {i}{label}"] = decoded(modality, samples, i)
    return modality.render(panels)


def decoded(modality: Modality, samples: SampleSet, number: int) -> Item:
    """One sample as an item, by the seed it came from."""
    randomness = SampleRandomness([samples.seeds[number]], "decode")
    return modality.decode(samples.x[number : number + 1], None, randomness)


def nearest_media(modality: Modality, result: Study, samples: SampleSet) -> list[Media]:
    row = next(r for r, s in zip(result.rows, result.samples, strict=True) if s is samples)
    panels: dict[str, Item] = {}
    for sample, item in row.closest[: SHOWN // 2]:
        panels[f"sample {sample}"] = decoded(modality, samples, sample)
        panels[f"nearest to sample {sample}"] = modality.decode(
            result.data.train.x[item : item + 1], None, SampleRandomness([item], "decode")
        )
    return modality.render(panels)


def with_interval(value: Estimate | None, digits: int = 4) -> str:
    """``value (low to high)``, the value alone where it has no interval, a dash where it is not finite, or nothing."""
    if value is None:
        return ""
    if not math.isfinite(value.value):
        return "–"
    if not math.isfinite(value.low):
        return f"{value.value:.{digits}g}"
    return f"{value.value:.{digits}g} ({value.low:.{digits}g} to {value.high:.{digits}g})"


def _own(result: Study) -> list[SampleSet]:
    """Sample sets of the evaluated model itself, which comes first."""
    return [s for s in result.samples if s.name == result.samples[0].name]


def _cells(row: Figures) -> list[float | str | None]:
    accuracy = None if row.accuracy is None else Estimate(*(100 * v for v in row.accuracy))
    return [
        title(row),
        "" if row.nfe is None else str(row.nfe),
        str(row.n),
        with_interval(accuracy, 3),
        with_interval(row.frechet, 3),
        f"{row.frechet_matched:.3g}",
        f"{row.precision:.2f}",
        f"{row.recall:.2f}",
        "" if row.nearer is None else f"{100 * row.nearer:.1f}",
        "" if row.copied is None else f"{100 * row.copied:.1f}",
    ]


def _figures_text(result: Study) -> str:
    if result.classifier_accuracy is None:
        return "The data have no labels: features are principal components, and there is no accuracy."
    plain, shown = result.classifier_accuracy
    return (
        f"The classifier names {100 * plain.value:.1f} % of the held-out items as they are, and {100 * shown.value:.1f} % "
        "as it sees samples. Accuracy is the share of samples that it names as they were asked for."
    )
