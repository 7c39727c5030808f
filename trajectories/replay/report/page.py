"""Put the pages together."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

from trajectories.replay.contact_sheet import PICTURED_EPISODES, Thumbnail
from trajectories.replay.report import overview
from trajectories.replay.report.beliefs import beliefs
from trajectories.replay.report.episodes import episode_section
from trajectories.replay.report.landscapes import landscapes
from trajectories.replay.report.words import (
    POLICY_COLOURS,
    POLICY_MEANINGS,
    POLICY_NAMES,
    QUANTITIES,
    SERIES,
    STEP_QUANTITIES,
    count,
)
from trajectories.replay.results import ReplayResult
from trajectories.replay.summary import quantiles

_SHOWN_OPEN = 4


@dataclass(frozen=True)
class Shown:
    """One planner's result as the page needs it.

    Attributes:
        result: What was found.
        thumbnails: Pictures by episode.
        files: The machine-readable files beside the page.
    """

    result: ReplayResult
    thumbnails: Mapping[str, Sequence[Thumbnail]]
    files: Sequence[str] = ()


def render_report(runs: Sequence[Shown]) -> str:
    """Return one HTML page about one or several planners that replayed the same episodes."""
    results = [run.result for run in runs]
    first = results[0]
    labels = ", ".join(result.planner.label for result in results)
    title = f"Replay: {labels}"
    verdicts = "".join(_verdict(result, is_named=len(results) > 1) for result in results)
    body = (
        f"<h1>{html.escape(title)}</h1>{_lead(first)}{verdicts}{overview.tiles(first) if len(results) == 1 else ''}"
        f"<h2>Plans and baselines</h2>{_table_note(first)}"
        f'<div class="card">{overview.table(results)}</div>'
        f"{beliefs(results)}"
        f"<h2>Episodes</h2>{_episodes(runs)}{landscapes(results)}"
        f"{_skipped(first)}{_appendix(runs)}"
    )
    return page(title, body)


def page(title: str, body: str) -> str:
    """Return a whole page in the report's style."""
    template = Template((files(__package__) / "page.html").read_text(encoding="utf-8"))
    return template.substitute(title=html.escape(title), body=body, series=_series())


def _series() -> str:
    rules = [
        f".{name} {{ stroke: var(--{name}); }} circle.{name}, rect.{name} {{ fill: var(--{name}); stroke: none; }}"
        for name in SERIES
    ]
    return "\n".join(rules)


def _lead(result: ReplayResult) -> str:
    planner = result.planner
    return (
        f'<p class="lead">{html.escape(planner.model)}, {count(len(result.episodes), "episode")}, '
        f"{count(len(result.steps), 'plan')}, {planner.control_period_s:g} s per step, "
        f"horizon {planner.horizon}, {html.escape(planner.via)}. Open loop: nothing was executed.</p>"
    )


def _verdict(result: ReplayResult, *, is_named: bool) -> str:
    name = f"<h3>{html.escape(result.planner.label)}</h3>" if is_named else ""
    return overview.verdict(result).replace("<p>", f"{name}<p>", 1)


def _table_note(result: ReplayResult) -> str:
    full = len(result.full_steps())
    tails = len(result.steps) - full
    left_out = f" {count(tails, 'step')} near an end left out." if tails else ""
    intervals = (
        ", below them 95 % intervals that resample whole episodes"
        if len(result.episodes) > 1
        else ""
    )
    return f'<p class="soft">Means over {count(full, "step")}{intervals}.{left_out}</p>'


def _episodes(runs: Sequence[Shown]) -> str:
    results = [run.result for run in runs]
    common = [
        episode.name
        for episode in results[0].episodes
        if all(any(each.name == episode.name for each in result.episodes) for result in results)
    ]
    sections = "".join(
        episode_section(
            results, name, runs[0].thumbnails.get(name, ()), is_open=place < _SHOWN_OPEN
        )
        for place, name in enumerate(common[:PICTURED_EPISODES])
    )
    if len(common) <= PICTURED_EPISODES:
        return sections
    note = f"The first {PICTURED_EPISODES} of {len(common)}; the files beside this page have all."
    return f'<p class="soft">{note}</p>{sections}'


def _skipped(result: ReplayResult) -> str:
    if not result.skipped:
        return ""
    rows = "".join(
        f'<tr><td>{html.escape(each.episode)}</td><td class="words">{html.escape(each.reason)}</td></tr>'
        for each in result.skipped
    )
    return (
        f"<h2>{count(len(result.skipped), 'episode')} skipped</h2>"
        f'<div class="card scroll"><table><tr><th>Episode</th><th class="words">Why</th></tr>{rows}</table></div>'
    )


def _appendix(runs: Sequence[Shown]) -> str:
    first = runs[0].result
    missing = "".join(
        f"<dt>{name}</dt><dd>{html.escape(why)}</dd>" for name, why in first.missing.items()
    )
    names = [file for run in runs for file in run.files]
    links = ", ".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>' for name in names)
    return (
        f"<h2>How this was measured</h2><div class='card'>{_settings(runs)}"
        f"{f'<h3>Not known</h3><dl>{missing}</dl>' if missing else ''}</div>"
        f"<details><summary>What the numbers mean</summary><div class='card'>{_glossary()}</div></details>"
        f"<footer>Every number of this page is in {links}.</footer>"
    )


def _settings(runs: Sequence[Shown]) -> str:
    rows: list[tuple[str, str]] = []
    for run in runs:
        planner, timing = run.result.planner, run.result.timing
        box = ", ".join(f"{limit:g}" for limit in planner.max_step)
        overhead = "unknown" if timing.overhead is None else f"{100 * timing.overhead:.1f} %"
        text = (
            f"planner {planner.planner}, box ±({box}) [m, rad, closedness], {timing.planning_s:.1f} s of planning, "
            f"{timing.judging_s:.1f} s of judging, overhead {overhead}"
        )
        rows += [(planner.label, text), ("latency, median", _latency(run.result))]
    settings = runs[0].result.settings
    goal = (
        "the episode's end"
        if settings.goal_steps == "end"
        else f"{count(settings.goal_steps, 'step')} ahead"
    )
    drawn = "every step" if settings.draws is None else f"{settings.draws} steps drawn at random"
    rows += [
        ("goal", goal),
        ("steps", f"{drawn}, every {settings.every}" if settings.every > 1 else drawn),
        ("clock", settings.clock.replace("_", " ")),
        ("random", f"seed {settings.seed}, {settings.candidates} candidates per step"),
        (
            "made",
            f"{runs[0].result.created}, "
            + ", ".join(f"{k} {v}" for k, v in runs[0].result.versions.items()),
        ),
    ]
    return (
        "<dl>"
        + "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in rows)
        + "</dl>"
    )


def _latency(result: ReplayResult) -> str:
    names = {
        "encode_ms": "encoding",
        "plan_ms": "search",
        "queue_ms": "queue",
        "round_trip_ms": "round trip",
    }
    parts = [
        f"{name} {quantiles(result.steps, metric)[0]:.1f} ms" for metric, name in names.items()
    ]
    evaluations = quantiles(result.steps, "evaluations")[0]
    return f"{', '.join(parts)}; {evaluations:.0f} evaluations"


def _glossary() -> str:
    entries = [(each.title, each.meaning) for each in (QUANTITIES | STEP_QUANTITIES).values()]
    entries += [(POLICY_NAMES[policy], POLICY_MEANINGS[policy]) for policy in POLICY_COLOURS]
    return (
        "<dl>"
        + "".join(f"<dt>{title}</dt><dd>{meaning}</dd>" for title, meaning in entries)
        + "</dl>"
    )
