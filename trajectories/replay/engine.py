"""Replay episodes through one planner and collect what is found, whoever the planner is and wherever it runs."""

from __future__ import annotations

import platform
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trajectories.episode import Episode
from trajectories.errors import BadEpisodeError
from trajectories.poses import POSITION
from trajectories.replay import metrics
from trajectories.replay.contact_sheet import PICTURED_EPISODES, Thumbnail, chosen_steps, thumbnail
from trajectories.replay.judge import Answer, EnergyModel, judge
from trajectories.replay.landscape import landscape
from trajectories.replay.questions import Question, Span, ask
from trajectories.replay.results import (
    EpisodeResult,
    Landscape,
    PlannerCard,
    ReplayResult,
    Settings,
    Skipped,
    StepResult,
    Timing,
)
from trajectories.replay.summary import summarise

Array = NDArray[np.float64]

NO_ENERGIES = "the server does not tell the energies of given actions (POST /v1/energy)"
_NEEDS_ENERGIES = ("energy_recorded", "rank_of_recorded", "surprise", "energy_to_end")
_PACKAGES = ("vjepa-planner", "numpy", "torch")


Answers = Generator[tuple[Question, Answer], None, None]


class PlannerUnderTest(EnergyModel, Protocol):
    """A planner that can be asked; in this process or behind the wire."""

    @property
    def card(self) -> PlannerCard:
        """Who it is and what its limits are."""
        ...

    def plan(self, questions: Iterator[Question]) -> Answers:
        """Answer an episode's questions in order."""
        ...


@dataclass
class _Findings:
    """What one planner's replay has found so far."""

    episodes: list[EpisodeResult] = field(default_factory=list)
    steps: list[StepResult] = field(default_factory=list)
    landscapes: list[Landscape] = field(default_factory=list)
    thumbnails: dict[str, list[Thumbnail]] = field(default_factory=dict)


class Replay:
    """One planner's replay.

    Args:
        planner: Who is asked.
        settings: How.
        landscapes: Steps per episode whose surroundings are mapped, those of the largest motion.
    """

    def __init__(self, planner: PlannerUnderTest, settings: Settings, landscapes: int = 0) -> None:
        self._planner = planner
        self._settings = settings
        self._landscapes = landscapes
        self._found = _Findings()
        self._wall_s = 0.0
        self._judging_s = 0.0

    @property
    def episodes(self) -> int:
        """How many episodes have been replayed."""
        return len(self._found.episodes)

    @property
    def thumbnails(self) -> dict[str, list[Thumbnail]]:
        """Pictures of every episode, for the report."""
        return self._found.thumbnails

    def add(self, episode: Episode, view: str, asked: Sequence[Span]) -> None:
        """Replay one episode that has one row per control period.

        Args:
            episode: The episode.
            view: Camera to look through.
            asked: Which steps; ascending.

        Raises:
            TrajectoryError: It turns out to be unusable on the way; nothing of it is kept.
        """
        started_s, judging_s = time.monotonic(), 0.0
        is_pictured = self.episodes < PICTURED_EPISODES
        pictured = chosen_steps(asked) if is_pictured else frozenset()
        mapped = _largest_motions(episode, asked, self._landscapes)
        found = _Findings(thumbnails={episode.name: []})
        questions = ask(episode, view, asked, self._planner.card.horizon, self._settings.seed)
        with closing(self._planner.plan(questions)) as answers:
            for question, answer in answers:
                answered_s = time.monotonic()
                found.steps.append(self._judge(question, answer))
                if question.span.step in mapped:
                    self._map(question, answer, found)
                if question.span.step in pictured:
                    picture = thumbnail(question.span.step, question.frame)
                    found.thumbnails[episode.name].append(picture)
                if question.span == asked[-1] and is_pictured:
                    picture = thumbnail(len(episode) - 1, question.last_frame)
                    found.thumbnails[episode.name].append(picture)
                judging_s += time.monotonic() - answered_s
        found.episodes.append(_episode(episode, view, found.steps))
        self._keep(found)
        self._judging_s += judging_s
        self._wall_s += time.monotonic() - started_s

    def result(self, bad: Sequence[BadEpisodeError] = ()) -> ReplayResult:
        """Return everything found so far, and name the episodes that were skipped."""
        found = self._found
        planning_s = sum(map(_planning_ms, found.steps)) / 1e3
        rest_s = self._wall_s - self._judging_s - planning_s
        missing = {
            name: NO_ENERGIES
            for name in _NEEDS_ENERGIES
            if any(getattr(step, name) is None for step in found.steps)
        }
        return ReplayResult(
            planner=self._planner.card,
            settings=self._settings,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=_versions(),
            episodes=tuple(found.episodes),
            steps=tuple(found.steps),
            landscapes=tuple(found.landscapes),
            skipped=tuple(
                Skipped(episode=error.name, reason="; ".join(map(str, error.defects)))
                for error in bad
            ),
            missing=missing,
            timing=Timing(
                wall_s=self._wall_s,
                planning_s=planning_s,
                judging_s=self._judging_s,
                overhead=rest_s / planning_s if planning_s > 0 else None,
            ),
            summary=summarise(found.steps, found.episodes),
        )

    def _judge(self, question: Question, answer: Answer) -> StepResult:
        step = judge(question, answer, self._planner.card, self._planner, self._settings.candidates)
        return step.model_copy(update=self._beyond(question, step))

    def _beyond(self, question: Question, step: StepResult) -> dict[str, float | None]:
        """Return the energy towards the episode's end, and how surprising the next frame is.

        What the step's own energies tell already is not asked again.
        """
        known: dict[str, float | None] = {}
        if question.goal is question.last_frame:
            known["energy_to_end"] = step.energy_now
        if question.goal is question.next_frame and len(question.recorded) == 1:
            known |= {"surprise": step.energy_recorded, "surprise_of_copy": step.energy_now}
        action = question.recorded[None, :1]
        if "energy_to_end" not in known:
            found = self._planner.energies(
                question.frame, question.state, question.last_frame, action
            )
            known["energy_to_end"] = None if found is None else found.now
        if "surprise" not in known:
            found = self._planner.energies(
                question.frame, question.state, question.next_frame, action
            )
            known["surprise"] = None if found is None else float(found.of_actions[0])
            known["surprise_of_copy"] = None if found is None else found.now
        return known

    def _map(self, question: Question, answer: Answer, found: _Findings) -> None:
        max_step = np.array(self._planner.card.max_step)
        mapped = landscape(question, answer.actions, max_step, self._planner)
        if mapped is not None:
            found.landscapes.append(mapped)

    def _keep(self, found: _Findings) -> None:
        self._found.episodes += found.episodes
        self._found.steps += found.steps
        self._found.landscapes += found.landscapes
        self._found.thumbnails |= found.thumbnails


def _planning_ms(step: StepResult) -> float:
    return step.encode_ms + step.plan_ms + min(step.goal_ms, step.encode_ms)


def _largest_motions(episode: Episode, asked: Sequence[Span], count: int) -> frozenset[int]:
    """Return the steps with the largest recorded displacement."""
    lengths_m = np.linalg.norm(episode.actions[:, POSITION], axis=-1)
    ordered = sorted(asked, key=lambda span: -lengths_m[span.step])
    return frozenset(span.step for span in ordered[:count])


def _episode(episode: Episode, view: str, steps: Sequence[StepResult]) -> EpisodeResult:
    energies = np.array(
        [np.nan if step.energy_to_end is None else step.energy_to_end for step in steps]
    )
    is_known = bool(np.isfinite(energies).all())
    return EpisodeResult(
        name=episode.name,
        source=episode.provenance.location,
        format=episode.provenance.format,
        view=view,
        clock=episode.clock,
        task=episode.task or None,
        is_success=episode.success,
        duration_s=episode.duration_s,
        steps=len(steps),
        warnings=tuple(map(str, episode.warnings)),
        monotonicity=metrics.monotonicity(energies) if is_known else None,
        falling_share=metrics.falling_share(energies) if is_known else None,
    )


def _versions() -> dict[str, str]:
    found = {package: _version(package) for package in _PACKAGES}
    known = {package: number for package, number in found.items() if number is not None}
    return {"python": platform.python_version(), **known}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
