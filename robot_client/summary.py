"""A run in one sentence and in a few numbers."""

import dataclasses
import statistics
from typing import Any

from robot_client.protocol import Welcome
from robot_client.records import RunEnd
from robot_client.supervisor import Truth
from robot_client.tasks import Task


def headline_of(end: RunEnd, truth: Truth | None) -> str:
    """One sentence that says how a run went."""
    if not end.is_complete:
        return f"STOPPED after {end.steps} steps: {end.reason}"
    if end.is_dry_run:
        return f"DRY RUN over after {end.steps} plans; the arm was not told to move"
    if truth is not None:
        word = "SUCCESS" if truth.is_success else "NOT ACHIEVED"
        return f"{word} after {end.steps} steps: {truth.reason} (read from the physics)"
    if end.is_success is None:
        return f"DONE after {end.steps} steps; whether the task succeeded is for you to judge"
    word = "SUCCESS" if end.is_success else "NOT ACHIEVED"
    return f"{word} after {end.steps} steps, by the task's own check"


def summary_of(
    task: Task,
    welcome: Welcome | None,
    end: RunEnd,
    truth: Truth | None,
    lines: list[dict[str, Any]],
    model_sha256: str | None = None,
) -> dict[str, Any]:
    """What a run was and came to, as plain values."""
    plans_ms = [line["plan_ms"] for line in lines if "plan_ms" in line]
    latencies_ms = [line["latency_ms"] for line in lines if line["latency_ms"] is not None]
    settings = f"{statistics.median(plans_ms):.0f} ms a plan" if plans_ms else "no plan was made"
    if welcome is not None:
        settings = f"model {welcome.model}, {welcome.control_period_s:g} s a step, {settings}"
    return {
        "task": task.name,
        "description": task.description,
        "end": dataclasses.asdict(end),
        "verdict": None if truth is None else dataclasses.asdict(truth),
        "model": None if welcome is None else welcome.model,
        "model_sha256": model_sha256,
        "control_period_s": None if welcome is None else welcome.control_period_s,
        "median_plan_ms": statistics.median(plans_ms) if plans_ms else None,
        "median_latency_ms": statistics.median(latencies_ms) if latencies_ms else None,
        "max_latency_ms": max(latencies_ms, default=None),
        "cut_short": sum(line.get("cut_short") is not None for line in lines),
        "clamps": sum(found["effect"] == "clamped" for line in lines for found in line["findings"]),
        "refusals": sum(
            found["effect"] == "refused" for line in lines for found in line["findings"]
        ),
        "settings": settings,
    }
