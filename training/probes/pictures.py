"""What an evaluation looks like: confusion matrix and example clips, as HTML that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from training.probes.evaluation import Evaluation
from training.probes.features import UNREADABLE
from training.probes.metrics import confusion_matrix
from training.probes.samples import Samples
from trajectories.replay.contact_sheet import thumbnail

_DRAWN = 40  # classes; larger matrices are shown as their worst pairs
_PAIRS = 20
_EXAMPLES = 6  # of right and of wrong answers each
_FRAMES = 4  # of an example
_CELL_PX = 22


def draw_evaluation(evaluation: Evaluation, samples: Samples) -> str:
    """Return the part of a report that tells an evaluation."""
    task = evaluation.task
    question, names = list(task.classes.items())[-1]
    matrix = confusion_matrix(evaluation.labels, evaluation.predicted, len(names))
    low, high = evaluation.interval
    facts = {
        "protocol": task.protocol,
        "samples": f"{len(evaluation.names):,}, and {len(evaluation.unreadable):,} unreadable",
        "best head": evaluation.heads[evaluation.best],
        **{name: f"{100 * value:.2f} %" for name, value in evaluation.metrics.items()},
        "95 % interval of top 1": f"{100 * low:.1f} to {100 * high:.1f} %",
    }
    parts = [
        f"<h2>Evaluation ({html.escape(question)})</h2>",
        _table(facts),
        f"<h3>Heads by {html.escape(task.score_name)}</h3>",
        _table(
            {
                name: f"{100 * score:.2f} %"
                for name, score in zip(evaluation.heads, evaluation.scores, strict=True)
            }
        ),
        "<h3>Confusion</h3>",
        draw_confusion(matrix, names),
        *_examples(evaluation, samples, names),
        _unreadable(evaluation.unreadable),
    ]
    return "".join(parts)


def draw_confusion(matrix: Tensor, names: Sequence[str]) -> str:
    """Draw a confusion matrix `[C, C]`, rows the true classes; of many classes the worst pairs."""
    if len(names) > _DRAWN:
        return _worst_pairs(matrix, names)
    counts = matrix.tolist()
    left = 8 * min(24, max(len(name) for name in names)) + 12
    size = _CELL_PX * len(names)
    parts = [
        (
            f'<svg viewBox="0 0 {left + size + 4} {size + 24}" role="img" '
            f'aria-label="confusion matrix" style="max-width:{left + size + 4}px">'
            f'<text x="{left}" y="14">predicted: the same order</text>'
        )
    ]
    for row, (name, line) in enumerate(zip(names, counts, strict=True)):
        y = 20 + row * _CELL_PX
        total = max(1, sum(line))
        parts.append(
            f'<text x="{left - 6}" y="{y + 15}" class="end">{html.escape(name[:24])}</text>'
        )
        for column, count in enumerate(line):
            x, share = left + column * _CELL_PX, count / total
            colour = "#1560bd" if row == column else "#c0392b"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_CELL_PX - 1}" height="{_CELL_PX - 1}" '
                f'fill="{colour}" fill-opacity="{max(0.04, share):.2f}"><title>'
                f"{html.escape(name)} as {html.escape(names[column])}: {count} ({share:.0%})"
                "</title></rect>"
            )
    return "".join([*parts, "</svg>"])


def _worst_pairs(matrix: Tensor, names: Sequence[str]) -> str:
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    counts, places = wrong.topk(min(_PAIRS, len(wrong)))
    rows = {
        f"{names[place // len(names)]} taken for {names[place % len(names)]}": count
        for count, place in zip(counts.tolist(), places.tolist(), strict=True)
        if count
    }
    return f"<p>{len(names)} classes; the most frequent mistakes:</p>{_table(rows)}"


def _examples(evaluation: Evaluation, samples: Samples, names: Sequence[str]) -> list[str]:
    """Show clips that the best head is surest about: right ones, and wrong ones."""
    right = evaluation.labels == evaluation.predicted
    order = evaluation.confidence.argsort(descending=True)
    parts = []
    for title, chosen in (("Right and sure", right), ("Wrong and sure", ~right)):
        rows = [row for row in order.tolist() if chosen[row]][:_EXAMPLES]
        figures = [_example(evaluation, samples, row, names) for row in rows]
        parts.append(f"<h3>{title}</h3>{''.join(figures) or '<p>None.</p>'}")
    return parts


def _example(evaluation: Evaluation, samples: Samples, row: int, names: Sequence[str]) -> str:
    text = (
        f"{names[int(evaluation.labels[row])]}: taken for {names[int(evaluation.predicted[row])]} "
        f"({float(evaluation.confidence[row]):.0%}), {evaluation.names[row]}"
    )
    try:
        frames = samples.frames(evaluation.places[row], _FRAMES)
    except UNREADABLE:  # it could be read before; the page does without the picture
        return f"<p>{html.escape(text)}</p>"
    strip = np.ascontiguousarray(torch.cat(list(frames), dim=1).numpy())
    picture = base64.b64encode(thumbnail(0, strip).jpeg).decode()
    return (
        f'<figure><img alt="frames" style="width:100%" src="data:image/jpeg;base64,{picture}">'
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
    )


def _unreadable(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    lines = "".join(f"<li class='warning'>{html.escape(reason)}</li>" for reason in reasons[:50])
    return f"<h3>{len(reasons)} unreadable samples</h3><ul>{lines}</ul>"


def _table(facts: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td class='number'>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"
