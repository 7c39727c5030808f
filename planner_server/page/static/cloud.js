// What the search tried last: first steps of its candidates, coloured by energy; the best ones ringed.

import { extent, rgb } from "./colours.js";
import { css, sized } from "./dom.js";

const GAP = 12;
const SCALES_M = [0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.5, 1];

/** Draw candidates' first steps, from above and from the side, as large as they fit; returns half the side shown [m]. */
export function drawCloud(canvas, candidates, chosen, limitM) {
  const farthest = Math.max(...[chosen, ...candidates.actions].flatMap((action) => action.slice(0, 3).map(Math.abs)));
  const reachM = SCALES_M.find((scale) => scale >= farthest) ?? limitM;
  const { context, width, height } = sized(canvas);
  context.clearRect(0, 0, width, height);
  const side = Math.min((width - GAP) / 2, height - 16);
  const left = (width - 2 * side - GAP) / 2;
  drawSide(context, left, side, 0, 1, "from above", candidates, chosen, reachM, true);
  drawSide(context, left + side + GAP, side, 0, 2, "from the side", candidates, chosen, reachM, false);
  return reachM;
}

function drawSide(context, left, side, across, up, label, { actions, energies, elites }, chosen, reachM, isFlipped) {
  // The same directions as the axes beside it: from above, x points up and y to the left.
  const [horizontal, vertical] = isFlipped ? [1, 0] : [across, up];
  const place = (action) => {
    const x = action[horizontal] / reachM;
    return [left + side * (0.5 + 0.46 * (isFlipped ? -x : x)), side * (0.5 - 0.46 * (action[vertical] / reachM))];
  };
  context.strokeStyle = css("--line");
  context.lineWidth = 1;
  context.strokeRect(left + 0.04 * side, 0.04 * side, 0.92 * side, 0.92 * side);
  context.beginPath();
  context.moveTo(left + side / 2, 0.04 * side);
  context.lineTo(left + side / 2, 0.96 * side);
  context.moveTo(left + 0.04 * side, side / 2);
  context.lineTo(left + 0.96 * side, side / 2);
  context.stroke();
  const [low, high] = extent(energies);
  for (let index = actions.length - 1; index >= 0; index -= 1) { // the best last, on top
    const [x, y] = place(actions[index]);
    const share = 1 - (energies[index] - low) / Math.max(high - low, 1e-9);
    context.beginPath();
    context.arc(x, y, index < elites ? 4 : 3, 0, 2 * Math.PI);
    context.fillStyle = rgb("viridis", share, 0.9);
    context.fill();
    if (index < elites) {
      context.strokeStyle = css("--ink");
      context.lineWidth = 1.25;
      context.stroke();
    }
  }
  const [x0, y0] = place([0, 0, 0]);
  const [x1, y1] = place(chosen);
  context.strokeStyle = css("--plan");
  context.lineWidth = 2.25;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
  context.fillStyle = css("--muted");
  context.font = "11px ui-sans-serif, system-ui, sans-serif";
  context.fillText(label, left + 0.04 * side, side + 12);
}
