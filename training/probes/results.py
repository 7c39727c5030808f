"""What an evaluation leaves in a folder: the best head, numbers, predictions, and a page of pictures.

config.json        the probe: its shape, its classes, the clips and the encoder it was made for
model.safetensors  its weights, under the names of `models.attentive_probe`
evaluation.json    the scores of all heads, intervals, unreadable samples
predictions.csv    what the best head said about every sample
evaluation.html    what `report.html` shows of it
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file
from torch import Tensor

from models.model_folder import CONFIG_FILE, WEIGHTS_FILE, replace_file
from training.checkpoints import write_json
from training.probes.evaluation import Evaluation
from training.probes.pictures import draw_evaluation
from training.probes.samples import Samples
from training.report import EVALUATION_FRAGMENT

RESULTS_FILE: Final = "evaluation.json"
PREDICTIONS_FILE: Final = "predictions.csv"
PROBE_FORMAT: Final = 1
_FILES = (CONFIG_FILE, WEIGHTS_FILE, RESULTS_FILE, PREDICTIONS_FILE, EVALUATION_FRAGMENT)


def write_evaluation(directory: Path, evaluation: Evaluation, samples: Samples) -> None:
    """Write numbers, predictions and pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    task = evaluation.task
    write_json(
        directory / RESULTS_FILE,
        {
            "protocol": task.protocol,
            "samples": len(evaluation.names),
            "best_head": evaluation.heads[evaluation.best],
            "metrics": dict(evaluation.metrics),
            "top1_interval_95": list(evaluation.interval),
            "score": task.score_name,
            "heads": dict(zip(evaluation.heads, evaluation.scores, strict=True)),
            "unreadable": list(evaluation.unreadable),
        },
    )
    replace_file(
        directory / PREDICTIONS_FILE, lambda partial: _write_predictions(partial, evaluation)
    )
    fragment = draw_evaluation(evaluation, samples)
    replace_file(
        directory / EVALUATION_FRAGMENT,
        lambda partial: partial.write_text(fragment, encoding="utf-8"),
    )


def write_probe(
    directory: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any]
) -> None:
    """Write a probe: its weights under plain names, and what it is."""
    directory.mkdir(parents=True, exist_ok=True)
    stored = {name: value.cpu().contiguous() for name, value in weights.items()}
    replace_file(directory / WEIGHTS_FILE, lambda partial: save_file(stored, partial))
    write_json(directory / CONFIG_FILE, {"format_version": PROBE_FORMAT, **description})


def promote(best: Path, folder: Path) -> None:
    """Let the run folder hold what its best head left."""
    for name in _FILES:
        if (best / name).is_file():
            shutil.copyfile(best / name, folder / name)


def read_results(directory: Path) -> dict[str, Any]:
    """Read what `write_evaluation` wrote."""
    content: dict[str, Any] = json.loads((directory / RESULTS_FILE).read_text(encoding="utf-8"))
    return content


def _write_predictions(path: Path, evaluation: Evaluation) -> None:
    names = list(evaluation.task.classes.values())[-1]
    rows = zip(
        evaluation.names,
        evaluation.labels.tolist(),
        evaluation.predicted.tolist(),
        evaluation.confidence.tolist(),
        strict=True,
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "label", "predicted", "confidence"])
        for name, label, predicted, confidence in rows:
            writer.writerow([name, names[label], names[predicted], f"{confidence:.6f}"])
