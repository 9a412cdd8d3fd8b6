"""One evaluation from names and folders to a result folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cmmulti.errors import UserError
from cmmulti.evaluation.card import write_figures
from cmmulti.evaluation.classifier import Training
from cmmulti.evaluation.features import ClassifierFeatures
from cmmulti.evaluation.generation import THEIR_OWN
from cmmulti.evaluation.levels import with_searched_levels
from cmmulti.evaluation.request import Request, check
from cmmulti.evaluation.study import Study, label_features, study, teacher_steps
from cmmulti.evaluation.tables import SHOWN, decoded, flat_metrics, generation_sections, task_sections, title
from cmmulti.evaluation.task import FEATURE_DISTANCE, chosen_cases, evaluate_task, task_called
from cmmulti.evaluation.tuning import tuned
from cmmulti.evaluation.words import options_typed, without_folders
from cmmulti.modality import DataSource
from cmmulti.pipeline import Pipeline
from cmmulti.pipeline.folder import model_folder, write_config
from cmmulti.pipeline.processes import is_main
from cmmulti.report.folder import ResultFolder
from cmmulti.report.results import Output, Results
from cmmulti.report.sections import Section

Tell = Callable[[str], None]


def evaluate(request: Request, tell: Tell) -> Path | None:
    """Measure and write; the folder written, or None on processes that write nothing.

    Raises:
        UserError: a model, data set, task or option does not exist or does not fit; the folder cannot be written.
    """
    check(request)
    tell = tell if is_main() else _silent
    if request.task is None:
        return _samples(request, tell)
    return _task(request, tell) if is_main() else None


def _samples(request: Request, tell: Tell) -> Path | None:
    pipeline, teacher = request.pipeline, request.teacher
    source, began = request.source(), time.perf_counter()
    kept, training = classifiers(request.out), Training(request.classifier_steps)
    # A teacher that is none is refused before levels are searched, which may take hours.
    beside = [] if teacher is None else [("teacher", teacher, teacher_steps(teacher, request.how))]
    if request.search_levels:
        pipeline = with_searched_levels(
            pipeline,
            source,
            max(request.steps),
            request.n,
            request.seed + request.n,  # figures come from seeds that levels were not chosen on
            kept,
            training,
            tell,
            request.how,
        )
    models: list[tuple[str, Pipeline, Sequence[int]]] = [("model", pipeline, request.steps), *beside]
    result = study(models, source, request.split, request.n, request.seed, kept, training, tell, request.how)
    if result is None:
        return None
    results = Results(
        command=request.command,
        model=request.model,
        task="evaluate",
        steps=result.rows[0].steps,
        nfe=result.rows[0].nfe,
        seconds=round(time.perf_counter() - began, 2),
        metrics=dict(flat_metrics(result.rows[0])),
        baselines={title(row): dict(flat_metrics(row)) for row in (*result.rows[1:], result.floor)},
        notes=[*result.notes, *_context_notes(pipeline), *_level_notes(request, pipeline)],
        device=str(pipeline.model.device),
        details=_details(request, source, result),
    )
    written = _write(request, results, generation_sections(result, pipeline), result)
    if request.search_levels and request.card:
        write_config(model_folder(request.model), pipeline.config)
    return written


def _task(request: Request, tell: Tell) -> Path:
    pipeline, name, source = request.pipeline, str(request.task), request.source()
    options = dict(request.options)
    if "simulate" in task_called(pipeline, name).Options.model_fields:
        options.setdefault("simulate", True)  # held-out items are what is looked for, not what is measured
    beside = "teacher at equal NFE" if request.how == THEIR_OWN else "teacher"
    models = {"model": pipeline} | ({} if request.teacher is None else {beside: request.teacher})
    chosen: dict[str, Any] = {}
    if request.tune:
        validation = pipeline.modality.dataset(source, "val")
        items = chosen_cases(validation, request.tune_n, request.seed)
        if not items:
            raise UserError(f"data {source.name}: its val part holds nothing to choose options on; expected no --tune")
        for line in request.tune:
            key, value = tuned(
                pipeline, validation, items, name, options, line, max(request.steps), request.seed, tell, request.how
            )
            options[key] = chosen[key] = value
    data = pipeline.modality.dataset(source, request.split)
    began = time.perf_counter()
    indices = chosen_cases(data, request.n, request.seed)
    features = None
    if bool((data.labels >= 0).any()):
        training = Training(request.classifier_steps)
        features = label_features(pipeline.modality, source, classifiers(request.out), training)
    tell(f"{name}: {len(indices)} held-out cases, {len(models) * len(request.steps)} rows")
    run = evaluate_task(models, data, indices, name, options, request.steps, request.seed, features, request.how)
    first = run.rows[0]
    results = Results(
        command=request.command,
        model=request.model,
        task=f"evaluate {name}",
        steps=first.steps,
        nfe=first.nfe,
        seconds=round(time.perf_counter() - began, 2),
        metrics={k: v.value for k, v in first.metrics.items()},
        baselines={r.name: {k: v.value for k, v in r.metrics.items()} for r in run.rows[1:]},
        notes=[*run.notes, _feature_note(features)],
        device=str(pipeline.model.device),
        details={
            "rows": [row.row() for row in run.rows],
            "data": _data(request, source),
            "options": options,
            "chosen_on_validation": chosen,
            "feature_hash": None if features is None else features.hash,
        },
    )
    return _write(request, results, task_sections(run, pipeline), None)


def _context_notes(pipeline: Pipeline) -> list[str]:
    known = pipeline.config.context
    return [] if known is None else [f"The model takes contexts ({known.described}); these samples were made without one."]


def _level_notes(request: Request, pipeline: Pipeline) -> list[str]:
    if not request.search_levels:
        return []
    levels = {s: ", ".join(f"{v:.4g}" for v in pipeline.levels(s)) for s in sorted(request.steps) if s > 1}
    return [f"Levels searched on the train part: {'; '.join(f'{s} steps {v}' for s, v in levels.items())}."]


def _feature_note(features: ClassifierFeatures | None) -> str:
    if features is None:
        return f"No {FEATURE_DISTANCE}: the data have no labels, and so no independent classifier to take features from."
    return (
        f"{FEATURE_DISTANCE}: LPIPS without learned weights (arXiv 1801.03924, eq. 1) on the layers of an independent "
        f"classifier (hash {features.hash}); figures compare only within one hash."
    )


def _write(request: Request, results: Results, sections: Sequence[Section], result: Study | None) -> Path:
    with ResultFolder(request.out, request.overwrite) as folder:
        if result is not None:
            results = results.model_copy(update={"outputs": _save_first(result, request.pipeline, folder.path)})
        folder.write(results, sections)
    if request.card:
        title = "samples" if request.task is None else " ".join([request.task, *options_typed(request.options)])
        places = {str(request.data): "ROOT", str(request.out): "DIR", request.model: Path(request.model).name}
        command = without_folders(request.command, places)
        write_figures(request.model, title, command, sections[0].tables[0], results.notes)
    return request.out


def _save_first(result: Study, pipeline: Pipeline, folder: Path) -> list[Output]:
    """The first few samples of the first row, as files of the modality."""
    samples, written = result.samples[0], []
    for i in range(min(SHOWN, len(samples.x))):
        file = pipeline.save(
            decoded(pipeline.modality, samples, i), folder / f"sample-{samples.seeds[i]}{pipeline.modality.extension}"
        )
        label = None if samples.labels is None else int(samples.labels[i])
        written.append(Output(file=file.relative_to(folder).as_posix(), seed=samples.seeds[i], label=label))
    return written


def _details(request: Request, source: DataSource, result: Study) -> dict[str, Any]:
    accuracy = result.classifier_accuracy
    return {
        "rows": [row.row() for row in (*result.rows, result.floor)],
        "data": _data(request, source),
        "feature_hash": result.features.hash,
        "features": result.features.name,
        "classifier_accuracy": None if accuracy is None else {"as_they_are": accuracy[0], "as_shown": accuracy[1]},
        "teacher": None if request.teacher is None else request.teacher.config.name,
    }


def _data(request: Request, source: DataSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "split": request.split,
        "options": dict(source.options),
        "n": request.n,
        "seed": request.seed,
    }


def classifiers(out: Path) -> Path:
    """Where trained classifiers are kept: beside the result folders, to be shared by the next evaluation."""
    return out.absolute().parent / "classifiers"


def _silent(line: str) -> None:
    """Other processes say nothing."""
