"""Imagine many futures of the same frames, one frame at a time, and compute nothing twice.

Attention in the predictor is frame-causal: a frame never sees a later one, so its keys and values stay
what they are while frames are appended. They are kept, and a new frame attends to them and to itself;
nothing has to be masked. What no candidate's action has touched is computed once per problem and shared
by its candidates: the frames before the current one, and of the current one everything up to the first
attention, where its tokens meet the action. All of this is exact.

Letters in shapes: P problems, S candidates of each, B = P * S, H actions ahead, T frames, N patches per
frame, K tokens per frame (action, state, patches), D channels of a token, W channels inside the
predictor, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from models.ac_predictor import ACPredictor
from models.errors import InvalidInputError
from models.layers import attend, normalise
from models.poses import compose
from models.rollout_memory import Cache, KeyValues, Memory, repeat
from models.rope import Rotary, conditioned_rotary


class RolloutBlock(Protocol):
    """A transformer block, cut where the tokens of other frames come in."""

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys and values `[B, heads, K, C]` of tokens `[B, K, W]`."""
        ...

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what the heads found `[B, heads, K, C]` to `[B, K, W]`, then transform every token."""
        ...


class ACRollout:
    """The action-conditioned predictor, unrolled with a cache.

    Args:
        predictor: The predictor; one that takes no camera extrinsics.
        blocks: What computes its blocks; they do it themselves by default.
    """

    def __init__(
        self, predictor: ACPredictor, blocks: Sequence[RolloutBlock] | None = None
    ) -> None:
        config, weight = predictor.config, predictor.predictor_proj.weight
        self._predictor = predictor
        self._config = config
        self._blocks = (
            list(blocks)
            if blocks is not None
            else [cast(RolloutBlock, block) for block in predictor.predictor_blocks]
        )
        self._dtype = weight.dtype
        self.rotary = conditioned_rotary(
            config.max_frames,
            *config.grid_size,
            config.condition_tokens,
            config.head_dim,
            weight.dtype,
            weight.device,
            config.rope,
        )

    def remember(self, tokens: Tensor, states: Tensor, actions: Tensor) -> Memory:
        """Compute what does not depend on actions to come.

        Args:
            tokens: Layer-normed tokens of the frames so far, oldest first, `[P, T * N, D]`.
            states: Pose at each frame `[P, T, 7]` [m, rad, closedness].
            actions: What was done from each frame but the last on, `[P, T - 1, 7]`.

        Raises:
            InvalidInputError: Shapes do not fit each other or the predictor.
        """
        frames = self._check_context(tokens, states, actions)
        by_frame = tokens.unflatten(1, (frames, -1))  # type: ignore[no-untyped-call]
        past: Cache = [None] * len(self._blocks)
        for index in range(frames - 1):
            x = self._embed(by_frame[:, index], states[:, index], actions[:, index])
            self._advance(x, index, [None] * len(past), past)

        x = self._embed(by_frame[:, -1], states[:, -1], None)
        q, k, v = self._blocks[0].project(x, self._turn(frames - 1, first=1))
        past[0] = known = KeyValues(k, v).after(past[0])
        scores = _scaled(q.float()) @ known.keys.float().transpose(-1, -2)
        return Memory(
            frames=frames,
            tokens=by_frame[:, -1],
            state=states[:, -1],
            past=past,
            known=known,
            embedded=x,
            queries=_scaled(q),
            attended=scores.softmax(dim=-1).to(v.dtype) @ known.values,
            log_sum=scores.logsumexp(dim=-1, keepdim=True),
        )

    def imagine(self, memory: Memory, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine where the actions of candidates lead.

        Args:
            memory: What they start from.
            actions: Actions `[P, S, H, 7]` [m, rad, closedness].

        Returns:
            Layer-normed predicted tokens `[P, S, H, N, D]`, float32, and predicted poses
            `[P, S, H, 7]`.

        Raises:
            InvalidInputError: Shapes do not fit, or there are more frames than the predictor takes.
        """
        self._check_actions(memory, actions)
        candidates, horizon = actions.shape[1:3]
        by_step = actions.flatten(0, 1).unbind(dim=1)
        frame, state = repeat(memory.tokens, candidates), repeat(memory.state, candidates)
        own: Cache = [None] * len(self._blocks)
        frames, states = [], []
        for step, action in enumerate(by_step):
            is_first, is_last = step == 0, step == horizon - 1
            x = self._meet(memory, action, own) if is_first else self._embed(frame, state, action)
            time = memory.frames - 1 + step
            x = self._advance(x, time, memory.past, own, first=int(is_first), keep=not is_last)
            frame, state = self._read_out(x, frame), compose(state, action)
            frames.append(frame)
            states.append(state)
        return (
            torch.stack(frames, dim=1).unflatten(0, (-1, candidates)),  # type: ignore[no-untyped-call]
            torch.stack(states, dim=1).unflatten(0, (-1, candidates)),  # type: ignore[no-untyped-call]
        )

    def _meet(self, memory: Memory, action: Tensor, own: Cache) -> Tensor:
        """Send the current frame through the first block, where it meets the actions `[B, 7]`.

        One key more moves the result of a softmax over the others towards its own value, by the
        share sigmoid(its score - log of the others' sum).
        """
        known, block = memory.known, self._blocks[0]
        grouped = (len(memory.state), -1)  # [B, ..] -> [P, S, ..]
        embedded = self._predictor.action_encoder(action.to(self._dtype)).unsqueeze(1)
        q, k, v = block.project(embedded, self._turn(memory.frames - 1, last=1))
        own[0] = KeyValues(k, v)

        # The action's token sees everything, state and patches `[P, heads, S, C]` and itself.
        q, k, v = (z.squeeze(2).unflatten(0, grouped).transpose(1, 2) for z in (_scaled(q), k, v))  # type: ignore[no-untyped-call]
        scores = torch.cat(
            [q @ known.keys.transpose(-1, -2), (q * k).sum(dim=-1, keepdim=True)], dim=-1
        )
        weights = scores.float().softmax(dim=-1).to(v.dtype)
        of_action = weights[..., :-1] @ known.values + weights[..., -1:] * v
        # State and patches know each other already `[P, heads, S, K - 1, C]`; the action is new.
        scores = (k @ memory.queries.transpose(-1, -2)).unsqueeze(-1)
        share = (scores - memory.log_sum.unsqueeze(2)).sigmoid().to(v.dtype)
        of_others = torch.lerp(memory.attended.unsqueeze(2), v.unsqueeze(3), share)

        attended = torch.cat([of_action.unsqueeze(3), of_others], dim=3).transpose(1, 2)
        shared = repeat(memory.embedded, len(action) // len(memory.state))
        return block.finish(torch.cat([embedded, shared], dim=1), attended.flatten(0, 1))

    def _advance(
        self,
        x: Tensor,
        time: int,
        shared: Cache,
        own: Cache,
        *,
        first: int = 0,
        keep: bool = True,
    ) -> Tensor:
        """Send one frame's tokens `[B, K, W]` through the blocks from `first` on.

        What it leaves for later frames is added to `own` where it is to be kept.
        """
        rotary = self._turn(time)
        for index in range(first, len(self._blocks)):
            block, common = self._blocks[index], shared[index]
            q, k, v = block.project(x, rotary)
            mine = KeyValues(k, v).after(own[index])
            if keep:
                own[index] = mine
            if common is not None:
                mine = mine.after(common.repeat(len(x) // len(common.keys)))
            x = block.finish(x, attend(q, mine.keys, mine.values))
        return x

    def _embed(self, frame: Tensor, state: Tensor, action: Tensor | None) -> Tensor:
        """Return the tokens of a frame as the first block gets them, `[B, K, W]`.

        Args:
            frame: Layer-normed tokens `[B, N, D]`.
            state: Pose `[B, 7]`.
            action: Action `[B, 7]`; None leaves its token out.
        """
        parts = [self._predictor.predictor_embed(frame.to(self._dtype))]
        if self._config.use_state:
            parts.insert(0, self._predictor.state_encoder(state.to(self._dtype)).unsqueeze(1))
        if action is not None:
            parts.insert(0, self._predictor.action_encoder(action.to(self._dtype)).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def _read_out(self, x: Tensor, frame: Tensor) -> Tensor:
        """Turn `[B, K, W]` into the layer-normed prediction `[B, N, D]` of what follows `frame`."""
        patches = x[:, self._config.condition_tokens :]
        predicted: Tensor = self._predictor.predictor_proj(self._predictor.predictor_norm(patches))
        return normalise(frame + predicted if self._config.residual else predicted)

    def _turn(self, time: int, *, first: int = 0, last: int | None = None) -> Rotary:
        """Return the rotation of the tokens `first` to `last` of the frame at `time`."""
        per_frame = self._config.condition_tokens + self._config.tokens_per_frame
        end = per_frame if last is None else last
        rows = slice(time * per_frame + first, time * per_frame + end)
        return Rotary(self.rotary.cosine[rows], self.rotary.sine[rows])

    def _check_context(self, tokens: Tensor, states: Tensor, actions: Tensor) -> int:
        """Return the number of frames, or refuse what does not fit together."""
        per_frame, channels = self._config.tokens_per_frame, self._config.embed_dim
        fits = tokens.ndim == 3 and tokens.shape[2] == channels and tokens.shape[1] > 0
        if not fits or tokens.shape[1] % per_frame:
            raise InvalidInputError(
                f"tokens have shape {list(tokens.shape)}; expected [P, T * {per_frame}, {channels}]"
            )
        problems, frames = len(tokens), tokens.shape[1] // per_frame
        for name, given, length in (("states", states, frames), ("actions", actions, frames - 1)):
            if given.shape != (problems, length, self._config.action_dim):
                raise InvalidInputError(
                    f"{name} have shape {list(given.shape)}; {frames} frames of context need "
                    f"[{problems}, {length}, {self._config.action_dim}]"
                )
        return frames

    def _check_actions(self, memory: Memory, actions: Tensor) -> None:
        problems, width = len(memory.state), self._config.action_dim
        if actions.ndim != 4 or actions.shape[0] != problems or actions.shape[3] != width:
            raise InvalidInputError(
                f"actions have shape {list(actions.shape)}; expected [{problems}, S, H, {width}]"
            )
        needed, most = memory.frames - 1 + actions.shape[2], self._config.max_frames
        if not 0 < actions.shape[2] <= most - memory.frames + 1:
            raise InvalidInputError(
                f"{memory.frames} frames of context and {actions.shape[2]} actions make {needed} "
                f"frames; the predictor takes 1 to {most}"
            )


def _scaled(queries: Tensor) -> Tensor:
    scaled: Tensor = queries * queries.shape[-1] ** -0.5
    return scaled
