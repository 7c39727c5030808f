"""Where the flange and the fingertips may go: workspace boxes, table, keep-out boxes.

The target is first pushed back into the boxes, so that an arm slides along a wall instead of
stopping at it. Then the whole way is checked, point by point, and cut short before the first point
that is not allowed. An arm that already stands outside may come in by its own steps or stay, but
not go further out.
"""

import numpy as np
import numpy.typing as npt

from robot_client.safety.finding import Finding
from robot_client.safety.geometry import (
    Vector,
    along,
    depth_m,
    fingertip_m,
    fingertip_z_m,
    outside_m,
)
from robot_client.safety.limits import SafetyLimits
from trajectories import poses

Flags = npt.NDArray[np.bool_]

_TOLERANCE_M = 1e-9
_SPACING_M = 0.005  # of the points that are checked, along the way and along the hand


def clamp_target(
    state: Vector, target: Vector, limits: SafetyLimits
) -> tuple[Vector, list[Finding]]:
    """Push a target pose [7] into the boxes and above the table."""
    pushed, findings, depth_m = target.copy(), [], limits.fingertip_depth_m
    pushed[poses.POSITION] = _into(
        target[poses.POSITION],
        state[poses.POSITION],
        np.array(limits.workspace_low_m),
        np.array(limits.workspace_high_m),
    )
    if not np.array_equal(pushed, target):
        at = np.round(target[poses.POSITION], 3).tolist()
        findings.append(Finding("workspace", "clamped", f"target {at} clamped into the workspace"))
    if limits.fingertip_box is not None:
        box, tip = limits.fingertip_box, fingertip_m(pushed, depth_m)
        low, high = np.array(box.low_m), np.array(box.high_m)
        inside = _into(tip, fingertip_m(state, depth_m), low, high)
        if not np.allclose(inside, tip, rtol=0.0, atol=_TOLERANCE_M):
            at = np.round(tip, 3).tolist()
            text = f"fingertips at {at} clamped into {box.name}"
            findings.append(Finding("fingertip box", "clamped", text))
            pushed[poses.POSITION] += inside - tip
    lowest_m = min(limits.min_fingertip_z_m, fingertip_z_m(state, depth_m))
    missing_m = lowest_m - fingertip_z_m(pushed, depth_m)
    if missing_m > _TOLERANCE_M:
        pushed[2] += missing_m
        text = f"raised by {missing_m:.3f} m to keep the fingertips off the table"
        height_m, limit_m = lowest_m - missing_m, limits.min_fingertip_z_m
        findings.append(Finding("table", "clamped", text, height_m, limit_m))
    return pushed, findings


def clamp_way(state: Vector, action: Vector, limits: SafetyLimits) -> tuple[Vector, list[Finding]]:
    """Cut an action [7] short before its way leaves a box, meets the table or enters a keep-out box."""
    depth_m = limits.fingertip_depth_m
    fractions, way = along(state, action, _SPACING_M, depth_m)
    flange, tip = way[:, poses.POSITION], fingertip_m(way, depth_m)
    broken = _broken_rules(flange, tip, limits)
    first = min((int(np.argmax(is_bad)) for is_bad in broken.values()), default=0)
    if not broken:
        return action, []
    rule = next(name for name, is_bad in broken.items() if is_bad[first])
    share = float(fractions[max(first - 1, 0)])
    text = f"the way leads against {rule}; cut to {100 * share:.0f} % of the step"
    finding = Finding(rule.split(":")[0], "clamped", text, 1.0, share)
    return np.concatenate([share * action[:6], action[6:]]), [finding]


def _broken_rules(flange: Vector, tip: Vector, limits: SafetyLimits) -> dict[str, Flags]:
    """Which points of the way [K] break which rule, each held against the first point."""
    low, high = np.array(limits.workspace_low_m), np.array(limits.workspace_high_m)
    found: dict[str, Flags] = {"workspace": _grows(outside_m(flange, low, high))}
    if limits.fingertip_box is not None:
        low, high = np.array(limits.fingertip_box.low_m), np.array(limits.fingertip_box.high_m)
        found["fingertip box"] = _grows(outside_m(tip, low, high))
    found["table"] = _grows(np.maximum(limits.min_fingertip_z_m - tip[:, 2:], 0.0))
    if limits.keep_out:
        hand = _between(flange, tip)
        grown_m = limits.keep_out_margin_m + _SPACING_M  # half of it for the way, half for the hand
        for box in limits.keep_out:
            low, high = np.array(box.low_m) - grown_m, np.array(box.high_m) + grown_m
            found[f"keep-out: {box.name}"] = _grows(depth_m(hand, low, high))
    return {name: is_bad for name, is_bad in found.items() if is_bad.any()}


def _between(flange: Vector, tip: Vector) -> Vector:
    """Points [K, n, 3] of the hand's middle line, from the flange to the fingertips."""
    length_m = float(np.linalg.norm(tip[0] - flange[0]))
    shares = np.linspace(0.0, 1.0, max(2, int(np.ceil(length_m / _SPACING_M)) + 1))
    points: Vector = flange[:, None] + shares[:, None] * (tip - flange)[:, None]
    return points


def _grows(violations: Vector) -> Flags:
    """Which points [K] have any of their violations [K, n] worse than the first point."""
    return np.asarray(np.any(violations > violations[:1] + _TOLERANCE_M, axis=-1))


def _into(point: Vector, now: Vector, low: Vector, high: Vector) -> Vector:
    return np.clip(point, np.minimum(low, now), np.maximum(high, now))
