"""The report card: every diagnosis of one encoder or world model, on the same runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from training.diagnostics.future import Horizon, judge_future
from training.diagnostics.landscape import (
    Correlation,
    Landscape,
    recorded_correlations,
    simulated_landscape,
)
from training.diagnostics.readout import ReadOut, read_attentively, read_linearly, read_mean
from training.diagnostics.runs import Runs, Seen, see
from training.diagnostics.stillness import (
    Change,
    Collapse,
    Drift,
    judge_change,
    judge_collapse,
    judge_drift,
)
from training.diagnostics.subject import ENCODER, PIXELS, RANDOM, Eye, Subject, random_twin
from training.diagnostics.surprise import Curve, Detection, SurpriseTest

NO_MODEL: Final = "an encoder alone has no action-conditioned predictor"


@dataclass(frozen=True)
class DiagnosisSettings:
    """How much is done.

    Attributes:
        horizon: Control periods that are predicted ahead, at most.
        attentive_steps: Updates of the attentive regressors.
    """

    horizon: int = 4
    attentive_steps: int = 300


@dataclass(frozen=True)
class ReportCard:
    """What was found.

    Attributes:
        name: What was diagnosed.
        source: Where it was loaded from.
        origin: What it looked at.
        period_s: Control period [s].
        learned: Runs that regressors learned from.
        judged: Runs that everything is judged on.
        readouts: State read out of tokens.
        collapse: Spread and rank of tokens, change over time.
        changes: Change where the arm moves and where it rests.
        drift: What the model does to a scene at rest.
        future: Error by horizon.
        detections: Surprise on spliced videos.
        curve: One spliced run.
        recorded: Energy against distance in recorded runs.
        landscape: The same in simulation.
        missing: Why a part is not there, by its name.
        elapsed_s: How long it took [s].
    """

    name: str
    source: str
    origin: str
    period_s: float
    learned: int
    judged: int
    readouts: Sequence[ReadOut]
    collapse: Sequence[Collapse]
    changes: Sequence[Change]
    drift: Sequence[Drift]
    future: Sequence[Horizon]
    detections: Sequence[Detection]
    curve: Curve | None
    recorded: Sequence[Correlation]
    landscape: Landscape | None
    missing: Mapping[str, str]
    elapsed_s: float


def diagnose(subject: Subject, runs: Runs, settings: DiagnosisSettings) -> ReportCard:
    """Make the report card of a subject.

    Args:
        subject: The encoder or world model.
        runs: What it looks at.
        settings: How much is done.
    """
    started = time.monotonic()
    eyes = subject.eyes()
    learned = {name: see(eye, runs.learned, f"{name}, to learn") for name, eye in eyes.items()}
    judged = {name: see(eye, runs.judged, f"{name}, to judge") for name, eye in eyes.items()}
    missing: dict[str, str] = {}
    readouts = _read_out(runs, learned, judged, settings)
    drift: Sequence[Drift] = ()
    future: Sequence[Horizon] = ()
    if subject.model is None:
        missing = {"drift": NO_MODEL, "future": NO_MODEL, "surprise": NO_MODEL}
    else:
        drift = judge_drift(subject.model, judged[ENCODER])
        future = judge_future(subject.model, judged[ENCODER], settings.horizon)
    test = SurpriseTest(subject.model, _without_random(judged))
    return ReportCard(
        name=subject.name,
        source=subject.source,
        origin=runs.origin,
        period_s=runs.period_s,
        learned=len(runs.learned),
        judged=len(runs.judged),
        readouts=readouts,
        collapse=_collapse(subject, judged),
        changes=[judge_change(name, seen) for name, seen in judged.items()],
        drift=drift,
        future=future,
        detections=test.detections(),
        curve=test.curve(),
        recorded=recorded_correlations(judged),
        landscape=_landscape(eyes, missing),
        missing=missing,
        elapsed_s=time.monotonic() - started,
    )


def document(card: ReportCard) -> dict[str, Any]:
    """Return a card as JSON values; pictures and single predictions are left out."""
    content = {
        name: _plain(getattr(card, name))
        for name in (field.name for field in dataclasses.fields(card))
        if name != "curve"
    }
    if card.curve is not None:
        content["curve"] = {"scores": _plain(card.curve.scores), "row": card.curve.splice.row}
    for readout in content["readouts"]:
        del readout["predicted_m"], readout["true_m"]
    return content


def _read_out(
    runs: Runs,
    learned: Mapping[str, Seen],
    judged: Mapping[str, Seen],
    settings: DiagnosisSettings,
) -> list[ReadOut]:
    found = [read_mean(runs.learned, runs.judged)]
    found += [read_linearly(name, learned[name], judged[name]) for name in learned]
    steps = settings.attentive_steps
    found += [
        read_attentively(name, learned[name], judged[name], steps)
        for name in learned
        if name != PIXELS  # patches of pixels do not say where they are
    ]
    return found


def _collapse(subject: Subject, judged: Mapping[str, Seen]) -> list[Collapse]:
    found = [judge_collapse(ENCODER, subject, judged[ENCODER])]
    if RANDOM in judged:
        twin = random_twin(subject.encoder.config)  # type: ignore[arg-type]  # only these have twins
        other = dataclasses.replace(subject, encoder=twin, model=None)
        found.append(judge_collapse(RANDOM, other, judged[RANDOM]))
    return found


def _without_random(views: Mapping[str, Seen]) -> dict[str, Seen]:
    return {name: seen for name, seen in views.items() if name != RANDOM}


def _landscape(eyes: Mapping[str, Eye], missing: dict[str, str]) -> Landscape | None:
    try:
        return simulated_landscape(eyes)
    except ModuleNotFoundError as error:
        missing["landscape"] = f"the simulator needs {error.name}; install vjepa-planner[sim]"
        return None


def _plain(value: Any) -> Any:
    """Turn dataclasses, arrays and numbers that are none into JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value != value:
        return None
    return value
