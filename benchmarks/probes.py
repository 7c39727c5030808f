"""What frozen evaluations cost: many heads in one pass, tokens that are kept, nearest neighbours.

`python -m benchmarks.probes` takes about two minutes on two cores. A step of 20 attentive heads is timed against the
same 20 heads as modules of their own, each with its AdamW, one after another; the
largest difference of their logits before it is in the table. An epoch that encodes every clip is timed
against one that reads tokens which were kept. Votes of the nearest of 10^5 features are timed per query. Times are
of the processor (of the clock where there is CUDA), medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.hardware import hardware
from models.attentive_probe import AttentiveClassifier
from models.config import AttentiveProbeConfig, EncoderConfig
from models.encoder import VisionTransformer
from models.weights import frozen
from training.probes.features import FeatureEncoder
from training.probes.fitting import update
from training.probes.head_optimiser import HeadAdamW
from training.probes.heads import HeadStack, draw_heads
from training.probes.neighbours import neighbour_scores

RESULTS = Path("benchmarks/results")
HEADS, CLASSES, WIDTH = 20, 16, 192
_RATES = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
_DECAYS = (0.01, 0.1, 0.4, 0.8)
_NEIGHBOURS = 20


@dataclass(frozen=True)
class Sizes:
    """How much is timed.

    Attributes:
        batch: Clips of a step.
        tokens: Tokens of a clip.
        clips: Clips of an epoch.
        features: Features that vote.
        queries: Queries that they vote on.
        repeats: Calls that are timed.
    """

    batch: int = 8
    tokens: int = 256
    clips: int = 64
    features: int = 100_000
    queries: int = 256
    repeats: int = 3


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        work: What is done.
        baseline: The way that it is compared with.
        baseline_s: Time of that [s].
        ours_s: Time of ours [s].
        difference: Largest difference of the results.
    """

    work: str
    baseline: str
    baseline_s: float
    ours_s: float
    difference: float

    @property
    def faster(self) -> float:
        """How many times faster ours is."""
        return self.baseline_s / self.ours_s


def time_steps(sizes: Sizes, depth: int) -> Row:
    """Time one update of 20 heads together, and one after another."""
    config = AttentiveProbeConfig(embed_dim=WIDTH, depth=depth, num_heads=16)
    stack = draw_heads(config, WIDTH, [CLASSES], HEADS, seed=0)
    rates = [rate for rate in _RATES for _ in _DECAYS]
    decays = [decay for _ in _RATES for decay in _DECAYS]
    separate = [_alone(stack, config, head) for head in range(HEADS)]
    alone = [
        torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)
        for head, rate, decay in zip(separate, rates, decays, strict=True)
    ]
    together = HeadAdamW(stack.parameters(), torch.tensor(rates), torch.tensor(decays))
    tokens = torch.randn(sizes.batch, sizes.tokens, WIDTH)
    labels = torch.arange(sizes.batch) % CLASSES

    def one_after_another() -> None:
        for head, optimiser in zip(separate, alone, strict=True):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(head(tokens), labels).backward()
            optimiser.step()

    def at_once() -> None:
        update(stack, together, tokens, labels)

    with torch.no_grad():
        found = stack(tokens)[0]
        difference = max(
            float((found[number] - head(tokens)).abs().max())
            for number, head in enumerate(separate)
        )
    one_after_another()
    at_once()
    return Row(
        f"step of {HEADS} heads, depth {depth}",
        f"{HEADS} heads one after another",
        _median(one_after_another, sizes.repeats),
        _median(at_once, sizes.repeats),
        difference,
    )


def time_epochs(sizes: Sizes) -> Row:
    """Time an epoch of 20 heads with and without encoding its clips."""
    encoder = frozen(
        VisionTransformer(
            EncoderConfig(img_size=(128, 128), num_frames=8, embed_dim=WIDTH, depth=6, num_heads=3)
        )
    )
    features = FeatureEncoder(encoder)
    config = AttentiveProbeConfig(embed_dim=WIDTH, depth=1, num_heads=16)
    stack = draw_heads(config, WIDTH, [CLASSES], HEADS, seed=0)
    optimiser = HeadAdamW(stack.parameters(), torch.full((HEADS,), 1e-3), torch.zeros(HEADS))
    clips = torch.randn(sizes.clips, 1, 1, 3, 8, 128, 128)
    labels = torch.arange(sizes.clips) % CLASSES
    kept = torch.cat([features.encode(clip) for clip in clips])
    again = torch.cat([features.encode(clip) for clip in clips])

    def epoch(read: Callable[[Tensor], Tensor]) -> None:
        for rows in torch.arange(sizes.clips).split(sizes.batch):
            update(stack, optimiser, read(rows), labels[rows])

    return Row(
        f"epoch of {sizes.clips} clips, {HEADS} heads",
        "every clip encoded again",
        _median(lambda: epoch(lambda rows: _encode(features, clips[rows])), sizes.repeats),
        _median(lambda: epoch(lambda rows: kept[rows]), sizes.repeats),
        float((kept - again).abs().max()),
    )


def time_neighbours(sizes: Sizes) -> Row:
    """Time votes of many features, against comparing queries one by one."""
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(sizes.features, WIDTH, generator=generator)
    queries = torch.randn(sizes.queries, WIDTH, generator=generator)
    labels = torch.arange(sizes.features) % CLASSES

    def vote(asked: Tensor) -> Tensor:
        return neighbour_scores(
            asked, references, labels, CLASSES, neighbours=(_NEIGHBOURS,), temperature=0.07
        )

    few = queries[: max(1, sizes.queries // 32)]

    def one_by_one() -> Tensor:
        return torch.cat([vote(query) for query in few.split(1)], dim=1)

    slow = _median(one_by_one, sizes.repeats) / len(few)
    quick = _median(lambda: vote(queries), sizes.repeats) / len(queries)
    difference = float((one_by_one() - vote(few)).abs().max())
    work = f"kNN vote of {sizes.features:,} features, per query"
    return Row(work, "queries one by one", slow, quick, difference)


def print_table(rows: Sequence[Row], title: str) -> None:
    """Print one line per comparison."""
    table = Table(title=title)
    for name in ("what", "compared with", "its time", "ours", "faster", "difference"):
        table.add_column(name, justify="left" if name in ("what", "compared with") else "right")
    for row in rows:
        table.add_row(
            row.work,
            row.baseline,
            f"{1e3 * row.baseline_s:,.2f} ms",
            f"{1e3 * row.ours_s:,.2f} ms",
            f"{row.faster:.1f}",
            f"{row.difference:.1e}",
        )
    Console(width=120).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write `benchmarks/results/probes.json`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.probes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; for tests")
    parser.add_argument("--output", type=Path, default=RESULTS / "probes.json")
    options = parser.parse_args(arguments)
    load_before = os.getloadavg()[0]
    torch.manual_seed(0)
    sizes = Sizes(2, 16, 4, 1000, 32, 1) if options.quick else Sizes()
    rows = [
        *(time_steps(sizes, depth) for depth in (1, 4)),
        time_epochs(sizes),
        time_neighbours(sizes),
    ]
    print_table(rows, f"probes on {hardware()}, {torch.get_num_threads()} threads")
    document: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.probes", *(arguments or sys.argv[1:])]),
        "hardware": hardware(),
        "load_before": load_before,
        "torch_threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "sizes": asdict(sizes),
        "rows": [{**asdict(row), "faster": row.faster} for row in rows],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1))
    print(f"written: {options.output}")
    return 0


def _alone(stack: HeadStack, config: AttentiveProbeConfig, head: int) -> AttentiveClassifier:
    """Return one head of a stack as a module of its own."""
    module = AttentiveClassifier(config, CLASSES)
    module.load_state_dict(stack.state_of(head))
    return module


def _encode(features: FeatureEncoder, clips: Tensor) -> Tensor:
    return torch.cat([features.encode(clip) for clip in clips])


def _median(do: Callable[[], object], repeats: int) -> float:
    return statistics.median(_time(do) for _ in range(repeats))


def _time(do: Callable[[], object]) -> float:
    """Return the time of a call [s]: the processor's, which others on the machine do not change."""
    clock = time.monotonic if torch.cuda.is_available() else time.process_time
    started = clock()
    do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started


if __name__ == "__main__":
    sys.exit(main())
