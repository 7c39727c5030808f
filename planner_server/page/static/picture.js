// Drawing frames and what lies over them: heat, the model's crop, arrows of the plan.

import { extent, rgb } from "./colours.js";
import { css } from "./dom.js";

/** Part of a frame that the model looks at, as fractions: left, top, width, height. The same rounding as the model's. */
export function visiblePart(width, height, geometry) {
  const [narrowest, widest] = geometry === "centre_square" ? [1, 1] : [0.75, 1.35];
  let [w, h] = [width, height];
  if (width / height < narrowest) h = Math.round(width / narrowest);
  else if (width / height > widest) w = Math.round(height * widest);
  return { left: Math.floor((width - w) / 2) / width, top: Math.floor((height - h) / 2) / height, width: w / width, height: h / height };
}

/** Draw a grid of numbers over a part of the canvas; transparent where nothing is to be seen. */
export function drawHeat(context, box, grid, { map = "inferno", low, high, alpha = 0.75, fade = true, mask = null } = {}) {
  const [least, most] = extent(grid);
  const from = low ?? least;
  const span = Math.max((high ?? most) - from, 1e-9);
  const rows = grid.length;
  const columns = grid[0].length;
  const [w, h] = [box.width / columns, box.height / rows];
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const share = (grid[row][column] - from) / span;
      const isOut = mask && !mask[row][column];
      context.fillStyle = isOut ? "rgba(120,120,120,0.55)" : rgb(map, share, fade ? alpha * (0.15 + 0.85 * share) : alpha);
      const [x, y] = [box.left + column * w, box.top + row * h];
      context.fillRect(Math.floor(x), Math.floor(y), Math.ceil(x + w) - Math.floor(x), Math.ceil(y + h) - Math.floor(y));
    }
  }
}

/** Darken what the model does not see. */
export function drawUnseen(context, width, height, box) {
  context.fillStyle = "rgba(10,12,14,0.45)";
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(box.left + box.width, box.top, -box.width, box.height);
  context.fill("evenodd");
}

/** Draw an arrow with a halo, so that it is seen on any ground. */
export function drawArrow(context, [x0, y0], [x1, y1], tint = css("--plan"), width = 3) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  const head = Math.min(12, Math.max(6, length / 3));
  const angle = Math.atan2(y1 - y0, x1 - x0);
  const trace = () => {
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    for (const side of [-0.45, 0.45]) {
      context.moveTo(x1, y1);
      context.lineTo(x1 - head * Math.cos(angle + side), y1 - head * Math.sin(angle + side));
    }
    context.stroke();
  };
  context.lineCap = "round";
  context.strokeStyle = "rgba(255,255,255,0.9)";
  context.lineWidth = width + 3;
  trace();
  context.strokeStyle = tint;
  context.lineWidth = width;
  trace();
}

/** Sum of all numbers of a grid. */
export const total = (grid) => grid.flat().reduce((sum, value) => sum + value, 0);
