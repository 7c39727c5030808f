"""Published probes: `.pt` files with a list `classifiers` of trained heads, loaded for inference only.

The shapes of its weights say what a head is, but for the number of attention heads, which is 16 in every
published one. Files accept tensors and plain values only; nothing in them is ever run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeVar

import torch
from torch import Tensor, nn

from models.attentive_probe import AnticipationClassifier, AttentiveClassifier
from models.config import AttentiveProbeConfig
from models.download import download, is_url
from models.errors import CorruptCheckpointError, ProbeMismatchError
from models.published import published_state, read_published
from models.weights import State, frozen, load_strictly, on_meta

ProbeKind = Literal["classification", "anticipation"]
"""What a head answers: which class, or verb, noun and action of what comes next."""

_HEADS_KEY: Final = "classifiers"
_QUERIES: Final = "pooler.query_tokens"
_HIDDEN: Final = "pooler.cross_attention_block.mlp.fc1.weight"
_BLOCK: Final = "pooler.blocks."
_OUTPUTS: Final[Mapping[ProbeKind, tuple[str, ...]]] = {
    "classification": ("linear",),
    "anticipation": ("verb_classifier", "noun_classifier", "action_classifier"),
}
_Probe = TypeVar("_Probe", bound=nn.Module)


@dataclass(frozen=True)
class ProbeFile:
    """The heads of a published probe, described but not yet built.

    Attributes:
        source: Where they come from, for messages.
        heads: Weights of every head under their plain names; several where all of a grid were kept.
        kind: What the heads answer.
        classes: Number of classes: one number, or verbs, nouns and actions.
        config: Architecture of the pooler.
    """

    source: str
    heads: Sequence[State]
    kind: ProbeKind
    classes: tuple[int, ...]
    config: AttentiveProbeConfig

    def classifier(
        self, head: int | None = None, device: str | torch.device = "cpu"
    ) -> AttentiveClassifier:
        """Build one head that tells classes apart: frozen, in evaluation mode.

        Args:
            head: Which one; the only one by default.
            device: Where its weights shall live.

        Raises:
            ProbeMismatchError: There is no such head, or heads of this file anticipate.
            CheckpointMismatchError: The weights are not those of an attentive classifier.
        """
        self._expect("classification")
        build = partial(AttentiveClassifier, self.config, *self.classes)
        return self._load(build, head, device)

    def anticipator(
        self, head: int | None = None, device: str | torch.device = "cpu"
    ) -> AnticipationClassifier:
        """Build one head that names what comes next; see `classifier`."""
        self._expect("anticipation")
        build = partial(AnticipationClassifier, self.config, *self.classes)
        return self._load(build, head, device)

    def head(self, number: int | None = None) -> State:
        """Return the weights of one head, of the only one by default.

        Raises:
            ProbeMismatchError: There is no such head, or there are several to choose from.
        """
        count = len(self.heads)
        if number is None and count > 1:
            raise ProbeMismatchError(
                f"{self.source} holds {count} heads; choose one of 0 to {count - 1}"
            )
        chosen = number or 0
        if not 0 <= chosen < count:
            raise ProbeMismatchError(f"{self.source} has no head {number}; it has 0 to {count - 1}")
        return self.heads[chosen]

    def _expect(self, kind: ProbeKind) -> None:
        if self.kind != kind:
            raise ProbeMismatchError(
                f"{self.source} holds heads for {self.kind}; {kind} was asked for"
            )

    def _load(
        self, build: Callable[[], _Probe], head: int | None, device: str | torch.device
    ) -> _Probe:
        state = self.head(head)
        probe = on_meta(build)
        load_strictly(probe, state, f"head {head or 0} of {self.source}", device)
        return frozen(probe)


def open_probe(source: str | os.PathLike[str], num_heads: int = 16) -> ProbeFile:
    """Open a file of probes, without copying its tensors.

    Args:
        source: A `.pt` file, or its URL; it is downloaded once.
        num_heads: Attention heads of the pooler.

    Raises:
        CheckpointNotFoundError: There is no such file.
        CorruptCheckpointError: The file is damaged, or no list of probes.
        UnsafeCheckpointError: The file wants to run code.
        ProbeMismatchError: The attention heads do not divide the width of the probe.
    """
    text = os.fspath(source)
    content = read_published(download(text) if is_url(text) else text)
    heads = _read_heads(content, text)
    shapes = {name: tuple(value.shape) for name, value in heads[0].items()}
    kind = _kind_of(shapes, text)
    try:
        config = AttentiveProbeConfig(
            embed_dim=shapes[_QUERIES][-1],
            depth=1 + len({name.split(".")[2] for name in shapes if name.startswith(_BLOCK)}),
            num_heads=num_heads,
            mlp_ratio=shapes[_HIDDEN][0] / shapes[_QUERIES][-1],
        )
    except ValueError as error:
        raise ProbeMismatchError(
            f"{text} has tokens of {shapes[_QUERIES][-1]} channels, which do not make {num_heads} "
            f"attention heads; pass the number that it was trained with ({error})"
        ) from error
    classes = tuple(shapes[f"{name}.weight"][0] for name in _OUTPUTS[kind])
    return ProbeFile(text, heads, kind, classes, config)


def _read_heads(content: Mapping[str, Any], source: str) -> list[dict[str, Tensor]]:
    found = content.get(_HEADS_KEY)
    if not isinstance(found, list) or not found:
        raise CorruptCheckpointError(
            f"{source} has no list {_HEADS_KEY!r} of heads; it has {sorted(map(str, content))}. "
            "Give a file of probes, not one of an encoder"
        )
    numbered = {str(number): head for number, head in enumerate(found)}
    return [published_state(numbered, number, source) for number in numbered]


def _kind_of(shapes: Mapping[str, tuple[int, ...]], source: str) -> ProbeKind:
    for kind, outputs in _OUTPUTS.items():
        needed = {_QUERIES, _HIDDEN, *(f"{name}.weight" for name in outputs)}
        if needed <= set(shapes) and all(shapes[name] and 0 not in shapes[name] for name in needed):
            return kind
    raise CorruptCheckpointError(
        f"{source} holds no attentive probe: there is neither {_OUTPUTS['classification'][0]} nor "
        f"{', '.join(_OUTPUTS['anticipation'])} behind a pooler among {sorted(shapes)[:8]}"
    )
