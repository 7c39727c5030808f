"""One thing that the filter found: what rule, what value, what was done about it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Effect = Literal["clamped", "refused"]


@dataclass(frozen=True)
class Finding:
    """A clamp or a refusal.

    Attributes:
        rule: Name of the rule, the same as in docs/safety.md.
        effect: "clamped": the action was made smaller; "refused": nothing may be executed.
        text: For people; has the value and the limit.
        value: What was found, in the unit of the rule; None where it is no number.
        limit: What is allowed.
    """

    rule: str
    effect: Effect
    text: str
    value: float | None = None
    limit: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as plain values, for the recorder."""
        return asdict(self)
