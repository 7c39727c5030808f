"""The planners by the names that sessions, configuration and benchmarks use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from planner_server.planning.cem import CemPlanner, CemSettings
from planner_server.planning.errors import UnknownPlannerError
from planner_server.planning.gradient import GradientPlanner, GradientSettings
from planner_server.planning.icem import IcemPlanner, IcemSettings
from planner_server.planning.mppi import MppiPlanner, MppiSettings
from planner_server.planning.planner import Planner
from planner_server.planning.rollouts import RolloutEngine
from planner_server.planning.surrogate import SurrogatePlanner, SurrogateSettings


@dataclass(frozen=True)
class Entry:
    """A planner's options, and how it is made from an engine and them."""

    settings: Callable[..., Any]
    make: Callable[[RolloutEngine, Any], Planner]


class Registry:
    """All planners; the first one is the default.

    Args:
        entries: The planners by name.
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[str]:
        """Go through the names, the default first."""
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a planner of this name."""
        return name in self._entries

    @property
    def default(self) -> str:
        """Name of the planner for those who name none."""
        return next(iter(self))

    def settings(self, name: str, **options: Any) -> Any:
        """Check options and return them as the planner's settings.

        Raises:
            UnknownPlannerError: There is no such planner.
            ValueError: An option does not exist or has a value that is not allowed.
        """
        return self._entry(name).settings(**options)

    def make(self, name: str, engine: RolloutEngine, settings: Any = None) -> Planner:
        """Build a planner around a model.

        Args:
            name: Which one.
            engine: Imagines candidates.
            settings: What `settings` returned; None takes the defaults.

        Raises:
            UnknownPlannerError: There is no such planner.
        """
        return self._entry(name).make(engine, self.settings(name) if settings is None else settings)

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise UnknownPlannerError(
                f"planner {name[:64]!r} does not exist; one of {', '.join(self)}"
            )
        return self._entries[name]


planners = Registry(
    {
        "surrogate": Entry(SurrogateSettings, SurrogatePlanner),
        "icem": Entry(IcemSettings, IcemPlanner),
        "mppi": Entry(MppiSettings, MppiPlanner),
        "gradient": Entry(GradientSettings, GradientPlanner),
        "cem": Entry(CemSettings, CemPlanner),
    }
)
