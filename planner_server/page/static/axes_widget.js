// The plan in space where no camera is calibrated: the flange seen from above (x, y) and from the side (x, z).

import { s } from "./dom.js";

const SIZE = 200;
const MARGIN = 22;
const TRAIL = 40;
const LEAST_ARROW = 7; // shorter ones would be nothing but a head

/** A small square view along one axis of the robot's base frame. */
export class AxesWidget {
  /** `across` and `up`: which coordinate goes right and which goes up; 0 x, 1 y, 2 z. */
  constructor({ test, label, across, up, flip = false }) {
    this.across = across;
    this.up = up;
    this.flip = flip; // y grows to the left when x points away from the viewer
    this.layer = s("g");
    this.element = s("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "axes-widget", role: "img", "aria-label": label, "data-testid": test });
    this.element.append(
      s("defs", {}, s("marker", { id: `${test}-head`, viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 3.5, markerHeight: 3.5, orient: "auto-start-reverse" },
        s("path", { d: "M0 0 L8 4 L0 8 z", class: "plan-fill" }))),
      s("rect", { x: MARGIN, y: 6, width: SIZE - MARGIN - 6, height: SIZE - MARGIN - 6, class: "axes-frame", rx: 4 }),
      this.layer,
      s("text", { x: SIZE - 8, y: SIZE - 6, class: "axes-label", "text-anchor": "end" }, flip ? `← ${"xyz"[across]}` : `${"xyz"[across]} →`),
      s("text", { x: 6, y: 16, class: "axes-label" }, `${"xyz"[up]} ↑`),
    );
    this.head = `url(#${test}-head)`;
  }

  /** Draw: `trail` rows of poses, `states` predicted poses, `limitM` the box of one step, `workspace` or null. */
  draw(trail, state, states, limitM, workspace) {
    const points = [state, ...states, ...trail].map((pose) => [pose[this.across], pose[this.up]]);
    points.push([state[this.across] - limitM, state[this.up] - limitM], [state[this.across] + limitM, state[this.up] + limitM]);
    const lows = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
    const highs = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
    const span = 1.1 * Math.max(highs[0] - lows[0], highs[1] - lows[1], 0.05);
    const centre = [0, 1].map((axis) => (lows[axis] + highs[axis]) / 2);
    const inner = SIZE - MARGIN - 6;
    const place = (pose) => {
      const x = (pose[this.across] - centre[0]) / span;
      const y = (pose[this.up] - centre[1]) / span;
      return [MARGIN + inner * (0.5 + (this.flip ? -x : x)), 6 + inner * (0.5 - y)];
    };
    const line = (poses) => poses.map((pose) => place(pose).map((value) => value.toFixed(1)).join(",")).join(" ");
    const box = inner * (2 * limitM / span);
    const [cx, cy] = place(state);
    const parts = [
      s("rect", { x: cx - box / 2, y: cy - box / 2, width: box, height: box, class: "axes-limit" }),
      s("polyline", { points: line([...trail.slice(-TRAIL), state]), class: "axes-trail" }),
      s("circle", { cx, cy, r: 4, class: "axes-now" }),
    ];
    if (workspace) {
      const low = place(workspace.low_m);
      const high = place(workspace.high_m);
      parts.unshift(s("rect", { x: Math.min(low[0], high[0]), y: Math.min(low[1], high[1]), width: Math.abs(high[0] - low[0]), height: Math.abs(high[1] - low[1]), class: "axes-workspace" }));
    }
    if (states.length) {
      const way = s("polyline", { points: line([state, ...states]), class: "axes-plan" });
      const [ex, ey] = place(states.at(-1));
      if (Math.hypot(ex - cx, ey - cy) > LEAST_ARROW) way.setAttribute("marker-end", this.head);
      parts.push(way);
    }
    const bar = scaleOf(span);
    const length = inner * bar / span;
    parts.push(s("line", { x1: MARGIN + 8, x2: MARGIN + 8 + length, y1: SIZE - MARGIN - 10, y2: SIZE - MARGIN - 10, class: "axes-scale" }),
      s("text", { x: MARGIN + 8, y: SIZE - MARGIN - 15, class: "axes-label" }, `${100 * bar} cm`));
    this.layer.replaceChildren(...parts);
  }
}

const scaleOf = (span) => [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1].findLast((bar) => bar <= span / 3) ?? 0.01;
