"""A run as one page: what the camera saw, how the energy fell, what was decided at each step."""

import base64
import html
import json
from pathlib import Path
from typing import Any

#: Where the recorder puts the film.
VIDEO = "recordings/MP4/left.mp4"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.images { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figure img { width: 14rem; image-rendering: auto; border-radius: 4px; }
video, img.wide { width: 100%; border-radius: 4px; }
.verdict { padding: .6rem 1rem; border-left: 4px solid #c70; background: var(--soft); }
.verdict.success { border-color: #2a7; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid var(--line); }
td:last-child, th:last-child { text-align: left; }
.scroll { overflow-x: auto; } footer { margin-top: 2rem; opacity: .7; font-size: .85rem; }
"""


def write_report(folder: Path) -> Path:
    """Draw the plot and write `index.html` from what the recorder left in `folder`.

    Without matplotlib there is a page without a plot.
    """
    lines = read_episode(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    _draw_energy(folder / "energy.png", lines)
    page = folder / "index.html"
    page.write_text(_page(folder, summary, lines), encoding="utf-8")
    return page


def read_episode(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `episode.jsonl`; a last line cut short by a crash is left out."""
    text = (folder / "episode.jsonl").read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def _draw_energy(path: Path, lines: list[dict[str, Any]]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    planned = [(index, line) for index, line in enumerate(lines) if "energy" in line]
    if not planned:
        return
    grey = "#888888"  # readable on white and on black
    figure = Figure(figsize=(8, 3), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    steps = [index for index, _ in planned]
    axes.plot(
        steps, [line["energy_now"] for _, line in planned], "o-", label="now", color="#2a7fd4"
    )
    axes.plot(
        steps,
        [line["energy"] for _, line in planned],
        "x--",
        label="predicted after the step",
        color="#d9822b",
    )
    _draw_distance(axes, planned, grey)
    for index, line in planned[1:]:
        if line["goal_index"] != lines[index - 1]["goal_index"]:
            axes.axvline(index - 0.5, color=grey, linewidth=0.8)
    axes.set_xlabel("plan", color=grey)
    axes.set_ylabel("energy", color=grey)
    axes.tick_params(colors=grey)
    axes.spines[:].set_color(grey)
    axes.legend(labelcolor=grey, framealpha=0)
    figure.savefig(path, transparent=True)


def _draw_distance(axes: Any, planned: list[tuple[int, dict[str, Any]]], grey: str) -> None:
    # Asked when a pass is over, and so true of the moment before the next plan.
    known = [
        (index + 1, 100 * line["simulator_truth"]["distance_m"])
        for index, line in planned
        if line.get("simulator_truth")
    ]
    if not known:
        return
    beside = axes.twinx()
    beside.plot(*zip(*known, strict=True), color=grey, linewidth=1)
    beside.set_ylabel("distance [cm]\n(simulator's truth)", color=grey)
    beside.set_ylim(bottom=0)
    beside.tick_params(colors=grey)
    beside.spines[:].set_color(grey)


def _page(folder: Path, summary: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    title = f"{summary['task']}: {summary['headline']}"
    goals = sorted(folder.glob("goal-*.png"))
    figures = [_figure(folder / "start.png", "start"), _figure(folder / "end.png", "end")]
    figures += [_figure(path, f"goal {index + 1}") for index, path in enumerate(goals)]
    is_success = bool(summary.get("verdict") and summary["verdict"]["is_success"])
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
<h1>{html.escape(summary["task"].replace("_", " "))}</h1>
<p>{html.escape(summary["description"])}</p>
<p class="verdict{" success" if is_success else ""}">{html.escape(summary["headline"])}</p>
<div class="images">{"".join(figures)}</div>
{_video(folder)}
{_plot(folder)}
<h2>Steps</h2>
<div class="scroll"><table>{_rows(lines)}</table></div>
<footer>{html.escape(summary["settings"])}<br>
Every number is in <a href="episode.jsonl">episode.jsonl</a>,
<a href="events.jsonl">events.jsonl</a> and <a href="summary.json">summary.json</a>.</footer>
</html>
"""


def _figure(path: Path, caption: str) -> str:
    if not path.is_file():
        return ""
    return f'<figure><img src="{_inline(path)}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _inline(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _video(folder: Path) -> str:
    if not (folder / VIDEO).is_file():
        return ""
    return f'<h2>Camera</h2><video src="{VIDEO}" controls muted loop playsinline></video>'


def _plot(folder: Path) -> str:
    path = folder / "energy.png"
    if not path.is_file():
        return ""
    return f'<h2>Energy</h2><img class="wide" src="{_inline(path)}" alt="energy at each plan">'


def _rows(lines: list[dict[str, Any]]) -> str:
    names = ("plan", "sub-goal", "energy", "predicted", "step [cm]", "plan [ms]", "remarks")
    rows = ["<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"]
    for index, line in enumerate(lines):
        action = line.get("filtered_action")
        step_cm = None if action is None else 100 * sum(x * x for x in action[:3]) ** 0.5
        remarks = [line["problem"] or "", *line["warnings"]]
        if line.get("cut_short"):
            remarks.append(f"cut short: {line['cut_short']}")
        if line["gripper"] != "hold":
            remarks.append(f"gripper: {line['gripper']}")
        if action is not None and not line["is_executed"]:
            remarks.append("not executed")
        cells = (
            str(index + 1),
            line["sub_goal"],
            _number(line.get("energy_now"), 3),
            _number(line.get("energy"), 3),
            _number(step_cm, 1),
            _number(line.get("plan_ms"), 0),
            "; ".join(remark for remark in remarks if remark),
        )
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "".join(rows)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
