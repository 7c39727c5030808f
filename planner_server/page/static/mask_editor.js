// Painting what counts in a goal: patch by patch, on the picture as the model sees it.

import { css, h, sized } from "./dom.js";

/** A picture with a grid of patches; painted ones count. All of them count while nothing is painted. */
export class MaskEditor {
  constructor(onChange) {
    this.onChange = onChange;
    this.isErasing = false;
    this.cursor = null;
    this.image = h("img", { class: "crop", test: "crop-preview", alt: "The goal exactly as the model sees it" });
    this.canvas = h("canvas", { class: "overlay", test: "mask-canvas", tabindex: "0", role: "application",
      "aria-label": "Part that counts. Arrow keys move, Enter paints or erases a patch." });
    this.box = h("div", { class: "mask-box" }, this.image, this.canvas);
    this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); this.paintAt(event); });
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons) this.paintAt(event); });
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.canvas.addEventListener("focus", () => { this.cursor ??= [0, 0]; this.draw(); });
    this.canvas.addEventListener("blur", () => { this.cursor = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  /** Show a goal: {cropUrl, mask: rows of booleans or null}, with the grid {rows, columns}. */
  show(goal, grid) {
    this.goal = goal;
    this.grid = grid;
    this.box.hidden = !goal;
    if (goal) this.image.src = goal.cropUrl ?? "";
    this.draw();
  }

  setErasing(isErasing) { this.isErasing = isErasing; }

  fill(value) { this.goal.mask = value; this.changed(); }

  invert() {
    const { rows, columns } = this.grid;
    this.goal.mask = Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (__, column) => !(this.goal.mask?.[row][column] ?? false)));
    this.changed();
  }

  paintAt(event) {
    const bounds = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - bounds.left) / bounds.width * this.grid.columns);
    const row = Math.floor((event.clientY - bounds.top) / bounds.height * this.grid.rows);
    this.set(row, column, !this.isErasing);
  }

  set(row, column, value) {
    const { rows, columns } = this.grid;
    if (row < 0 || row >= rows || column < 0 || column >= columns) return;
    if ((this.goal.mask?.[row][column] ?? false) === value) return;
    this.goal.mask ??= Array.from({ length: rows }, () => Array(columns).fill(false));
    this.goal.mask[row][column] = value;
    this.changed();
  }

  onKey(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const [row, column] = this.cursor ?? [0, 0];
    if (step) {
      this.cursor = [Math.min(Math.max(row + step[0], 0), this.grid.rows - 1), Math.min(Math.max(column + step[1], 0), this.grid.columns - 1)];
      this.draw();
    } else if (event.key === "Enter") this.set(row, column, !(this.goal.mask?.[row][column] ?? false));
    else return;
    event.preventDefault();
  }

  changed() {
    if (this.goal.mask && !this.goal.mask.flat().some(Boolean)) this.goal.mask = null;
    this.draw();
    this.onChange();
  }

  draw() {
    if (!this.goal) return;
    const { context, width, height } = sized(this.canvas);
    context.clearRect(0, 0, width, height);
    const { rows, columns } = this.grid;
    const [w, hh] = [width / columns, height / rows];
    const { mask } = this.goal;
    for (let row = 0; mask && row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        if (mask[row][column]) continue;
        context.fillStyle = "rgba(10,12,14,0.62)";
        context.fillRect(column * w, row * hh, w + 0.5, hh + 0.5);
      }
    }
    context.strokeStyle = "rgba(255,255,255,0.28)";
    context.lineWidth = 1;
    context.beginPath();
    for (let row = 1; row < rows; row += 1) { context.moveTo(0, row * hh); context.lineTo(width, row * hh); }
    for (let column = 1; column < columns; column += 1) { context.moveTo(column * w, 0); context.lineTo(column * w, height); }
    context.stroke();
    if (this.cursor) {
      context.strokeStyle = css("--accent");
      context.lineWidth = 3;
      context.strokeRect(this.cursor[1] * w + 1.5, this.cursor[0] * hh + 1.5, w - 3, hh - 3);
    }
  }
}

/** Return a goal's mask as a picture of the goal's own size, white where it counts; null where everything does. */
export async function maskBlob(goal) {
  if (!goal.mask) return null;
  const canvas = new OffscreenCanvas(goal.size[0], goal.size[1]);
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, ...goal.size);
  context.fillStyle = "#fff";
  const [left, top, right, bottom] = goal.crop;
  const [w, hh] = [(right - left) / goal.mask[0].length, (bottom - top) / goal.mask.length];
  goal.mask.forEach((row, y) => row.forEach((isOn, x) => {
    if (!isOn) return;
    const [x0, y0] = [Math.round(left + x * w), Math.round(top + y * hh)];
    context.fillRect(x0, y0, Math.round(left + (x + 1) * w) - x0, Math.round(top + (y + 1) * hh) - y0);
  }));
  return canvas.convertToBlob({ type: "image/png" });
}

/** Return which patches a mask picture covers by half; the other way round. */
export async function maskOf(blob, crop, grid) {
  const bitmap = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(grid.columns * 8, grid.rows * 8);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [left, top, right, bottom] = crop;
  context.drawImage(bitmap, left, top, right - left, bottom - top, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return Array.from({ length: grid.rows }, (_, row) => Array.from({ length: grid.columns }, (__, column) => {
    const { data } = context.getImageData(column * 8, row * 8, 8, 8);
    let sum = 0;
    for (let index = 0; index < data.length; index += 4) sum += data[index];
    return sum / 64 >= 128;
  }));
}
