"""A report card in words and numbers: the same tables for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.diagnostics.card import ReportCard
from training.diagnostics.landscape import Correlation
from training.diagnostics.stillness import MOVING_M, RESTING_M
from training.diagnostics.surprise import MODEL
from trajectories.replay.statistics import Estimate

UNKNOWN = "-"


@dataclass(frozen=True)
class Section:
    """One question, and its table.

    Attributes:
        key: Name of the part, for charts and for what is missing.
        title: The question.
        note: How to read the numbers.
        columns: Their names; the first column is words.
        rows: One cell for each column.
    """

    key: str
    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sections(card: ReportCard) -> list[Section]:
    """Return all parts of a card that there are."""
    return [section for section in _all(card) if section.rows]


def as_markdown(card: ReportCard) -> str:
    """Return all tables of a card in Markdown."""
    lines = []
    for section in sections(card):
        lines += [f"**{section.title}** {section.note}", ""]
        lines += [_row(section.columns), _row(["---", *["--:"] * (len(section.columns) - 1)])]
        lines += [*map(_row, section.rows), ""]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _all(card: ReportCard) -> Iterator[Section]:
    for describe in (_readouts, _collapse, _changes, _drift, _future, _surprise):
        yield describe(card)
    yield _correlations(
        "recorded",
        "Does the energy tell the distance, in recorded runs?",
        "pairs of rows of one run",
        card.recorded,
    )
    if card.landscape is not None:
        yield _correlations(
            "landscape",
            "Does the energy tell the distance, in simulation?",
            f"places along the axes around {card.landscape.goals} goals, the hand alone moved",
            card.landscape.correlations,
        )


def _readouts(card: ReportCard) -> Section:
    return Section(
        "readouts",
        "How well can the state be read out?",
        f"Error of the flange's position on {card.judged} runs that regressors did not learn from, and of the "
        "gripper's closedness (0 to 1); 95 % intervals resample runs. 'mean' answers the same for every frame.",
        ("tokens", "regressor", "position [cm]", "interval", "closedness", "interval"),
        [
            (
                each.eye,
                each.regressor,
                *_cells(each.error_m, 100, 2),
                *_cells(each.closedness_error, 1, 3),
            )
            for each in card.readouts
        ],
    )


def _collapse(card: ReportCard) -> Section:
    return Section(
        "collapse",
        "Do tokens tell things apart?",
        "Spread of a channel (1: nothing is shared), directions in use, and how much the tokens of a clip change "
        "over time, in shares of their distance to others. 'one frame repeated' shows what time alone does.",
        ("tokens", "spread", "directions", "of", "recorded clips", "one frame repeated"),
        [
            (
                each.eye,
                f"{each.std:.3f}",
                f"{each.directions:.1f}",
                str(each.channels),
                _number(each.diversity, 3),
                _number(each.diversity_still, 3),
            )
            for each in card.collapse
        ],
    )


def _changes(card: ReportCard) -> Section:
    return Section(
        "changes",
        "Do tokens rest where the arm rests?",
        f"Mean absolute change from row to row where the flange moves {100 * MOVING_M:g} cm or more, and where it "
        f"moves {1000 * RESTING_M:g} mm or less. Scales differ between kinds of tokens; ratios do not.",
        ("tokens", "moving", "interval", "resting", "interval", "ratio"),
        [
            (
                each.eye,
                *_cells(each.moving, 1, 4),
                *_cells(each.resting, 1, 4),
                _ratio(each.moving, each.resting),
            )
            for each in card.changes
        ],
    )


def _drift(card: ReportCard) -> Section:
    return Section(
        "drift",
        "Does a scene stay as it is when nothing is done?",
        "The world model imagines doing nothing; mean absolute difference from the present tokens.",
        ("control periods", "drift", "interval"),
        [(str(each.steps), *_cells(each.error, 1, 4)) for each in card.drift],
    )


def _future(card: ReportCard) -> Section:
    return Section(
        "future",
        "How far ahead does the model see?",
        "Mean absolute error of predicted tokens, recorded actions imagined; 'copy' repeats the last frame, "
        "'other actions' are those of another moment. p: sign-flip test over runs of model against copy.",
        ("control periods", "model", "interval", "copy", "model / copy", "other actions", "p"),
        [
            (
                str(each.steps),
                *_cells(each.error, 1, 4),
                f"{each.copied.mean:.4f}",
                _ratio(each.error, each.copied),
                f"{each.other_actions.mean:.4f}",
                f"{each.gain.p_value:.3g}",
            )
            for each in card.future
        ],
    )


def _surprise(card: ReportCard) -> Section:
    return Section(
        "surprise",
        "Does it notice what cannot have happened?",
        "The arm goes on as recorded; the camera shows another moment of the run (jump), the same picture again "
        "(freeze), or another run (stranger). Area under the ROC curve of spliced against recorded steps, 0.5 is "
        "chance. Without a model, change is the surprise. Lead: interval of the model's area minus this one's.",
        ("splice", "detector", "area", "interval", "splices", "lead of the model"),
        [
            (
                each.kind,
                each.detector if each.detector == MODEL else f"change of {each.detector}",
                f"{each.area.value:.3f}",
                _interval(each.area.low, each.area.high, 1, 3),
                str(each.area.anomalies),
                UNKNOWN if each.lead is None else _interval(*each.lead, 1, 3),
            )
            for each in card.detections
        ],
    )


def _correlations(key: str, title: str, what: str, found: Sequence[Correlation]) -> Section:
    return Section(
        key,
        title,
        f"Rank correlation of energy and distance over {what}; near: less than 10 cm apart. Lead: the encoder's near "
        "correlation minus this one's, p of the sign-flip test.",
        ("tokens", "all", "interval", "near", "interval", "lead of the encoder", "p"),
        [
            (
                each.eye,
                *_cells(each.overall, 1, 3),
                *_cells(each.near, 1, 3),
                UNKNOWN if each.lead is None else _estimate(each.lead.difference, 3),
                UNKNOWN if each.lead is None else f"{each.lead.p_value:.3g}",
            )
            for each in found
        ],
    )


def _cells(found: Estimate, scale: float, digits: int) -> tuple[str, str]:
    return _number(scale * found.mean, digits), _interval(found.low, found.high, scale, digits)


def _estimate(found: Estimate, digits: int) -> str:
    return f"{_number(found.mean, digits)} {_interval(found.low, found.high, 1, digits)}"


def _number(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None or value != value else f"{value:.{digits}f}"


def _interval(low: float | None, high: float | None, scale: float, digits: int) -> str:
    if low is None or high is None:
        return UNKNOWN
    return f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _ratio(first: Estimate, second: Estimate) -> str:
    if not first.steps or not second.steps or second.mean <= 0:
        return UNKNOWN
    return f"{first.mean / second.mean:.2f}"
