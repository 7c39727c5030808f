// Where the time of the last plans went, and which of them came too late.

import { css, sized } from "./dom.js";

const SHOWN = 60;
const PARTS = [["queue", "--still"], ["encode", "--goal"], ["plan", "--plan"]];

/** Draw a bar per plan, queue, encode and search stacked; the line is the time a plan may take. */
export function drawLatency(canvas, columns, patienceMs) {
  const { context, width, height } = sized(canvas);
  context.clearRect(0, 0, width, height);
  const [queue, encode, plan] = [11, 12, 13].map((index) => columns[index].slice(-SHOWN));
  const totals = [...queue].map((value, index) => value + encode[index] + plan[index]);
  if (!totals.length) return;
  const top = 1.15 * Math.max(...totals, Math.min(patienceMs, 3 * Math.max(...totals)));
  const step = width / SHOWN;
  const scale = (height - 4) / top;
  totals.forEach((sum, index) => {
    const x = width - (totals.length - index) * step;
    let y = height;
    for (const [part, [, name]] of [queue, encode, plan].map((values, place) => [values[index], PARTS[place]])) {
      context.fillStyle = css(name);
      const size = Math.max(part, 0) * scale;
      context.fillRect(x, y - size, Math.max(1, step - 1.5), size);
      y -= size;
    }
    if (sum > patienceMs) {
      context.fillStyle = css("--stop");
      context.fillRect(x, 0, Math.max(1, step - 1.5), 4);
    }
  });
  if (patienceMs <= top) {
    context.strokeStyle = css("--stop-text");
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(0, height - patienceMs * scale);
    context.lineTo(width, height - patienceMs * scale);
    context.stroke();
    context.setLineDash([]);
  }
}
