// The energy around the present frame, along two axes of the action, and what one chosen action would bring.

import { getBlob, send } from "../api.js";
import { extent, rgb } from "../colours.js";
import { css, h, number, panel, s, setEnabled, setText, sized } from "../dom.js";
import { drawMap } from "./imagine.js";

const AXES = ["dx", "dy", "dz", "roll", "pitch", "yaw", "gripper"];
const UNITS = ["cm", "cm", "cm", "°", "°", "°", ""];
const SCALE = [100, 100, 100, 180 / Math.PI, 180 / Math.PI, 180 / Math.PI, 1];
const MARGIN = { left: 52, bottom: 34, top: 8, right: 8 };

const ring = (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
const cross = (r) => `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`;
const square = (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`;
const MARKS = {
  still: { shape: ring, fill: null, radius: 8 },
  plan: { shape: square, fill: "#1a5bc4", radius: 4 },
  lowest: { shape: cross, fill: null, radius: 5 },
  chosen: { shape: ring, fill: "#c2410c", radius: 6 },
};

/** A mark as the key under the landscape shows it. */
function symbol(kind) {
  const { shape, fill } = MARKS[kind];
  return s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, s("path", { d: shape(5), fill: fill ?? "none", stroke: fill ?? "currentColor", "stroke-width": 2 }));
}

/** The view `#/landscape/ID`. */
export class LandscapeView {
  constructor({ store, notice }) {
    this.store = store;
    this.notice = notice;
    const select = (id, test, label, chosen) => [h("label", { for: id }, label), h("select", { id, test }, ...AXES.map((name, index) => h("option", { value: index, selected: name === chosen }, name)))];
    const [xLabel, x] = select("landscape-x", "landscape-x", "Across", "dx");
    const [yLabel, y] = select("landscape-y", "landscape-y", "Up", "dz");
    this.x = x;
    this.y = y;
    this.range = h("input", { id: "landscape-range", type: "number", min: "0.05", max: "4", step: "0.05", value: "1", test: "landscape-range" });
    this.points = h("input", { id: "landscape-points", type: "number", min: "3", max: "41", step: "2", value: "15", test: "landscape-points" });
    this.others = h("select", { id: "landscape-others", test: "landscape-others" }, h("option", { value: "zero" }, "still"), h("option", { value: "plan" }, "as planned"), h("option", { value: "chosen" }, "as chosen"));
    this.run = h("button", { class: "primary", test: "landscape-run", onclick: () => this.measure() }, "Measure");
    this.canvas = h("canvas", { class: "landscape", test: "landscape-canvas", tabindex: "0", role: "application", "aria-label": "Energy over two axes of the action. Arrow keys move the cross, Enter asks what that action would bring." });
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.readout = h("p", { class: "muted small" }, "Dark is near the goal. Click anywhere to ask what that action would bring.");
    const key = (kind, text) => h("span", {}, symbol(kind), text);
    this.marks = h("p", { class: "marks", hidden: true }, key("still", "holding still"), key("plan", "the plan"), key("lowest", "lowest here"), key("chosen", "chosen"));
    this.lowest = h("span");
    this.highest = h("span");
    this.legend = h("span", { class: "legend", hidden: true }, this.lowest, h("span", { class: "ramp viridis" }), this.highest);
    this.status = h("p", { class: "muted", role: "status" });
    this.action = h("p", { class: "mono", test: "whatif-action" }, "–");
    this.energy = h("output", { class: "figure", test: "whatif-energy" }, "–");
    this.change = h("p", { class: "muted small" });
    this.heat = h("canvas", { class: "square", test: "whatif-heat", role: "img", "aria-label": "Distance of every patch from the goal after the chosen action" });
    this.image = h("img", { class: "square", test: "whatif-image", alt: "The frame after the chosen action, drawn from predicted tokens" });
    this.imageFigure = h("figure", { hidden: true }, this.image, h("figcaption", { class: "muted small" }, "imagined"));
    this.empty = h("p", { class: "empty" }, "Press “Measure” once the robot has looked. The newest frame is taken; no robot waits long for it.");
    this.whatEmpty = h("p", { class: "empty" }, "Click into the landscape, or move the cross with the arrow keys and press Enter.");
    this.title = h("h1", {}, "Energy landscape");
    const field = (label, input) => h("div", { class: "field" }, label, input);
    this.element = h("section", { class: "view landscape-view", test: "view-landscape" },
      h("div", { class: "view-head" }, h("div", {}, this.title, h("p", { class: "muted small" }, "How near the goal the model expects single actions to lead.")), this.status),
      h("form", { class: "row fields-row", onsubmit: (event) => { event.preventDefault(); this.measure(); } },
        field(xLabel, x), field(yLabel, y),
        field(h("label", { for: "landscape-range" }, "Times the limit"), this.range),
        field(h("label", { for: "landscape-points" }, "Points a side"), this.points),
        field(h("label", { for: "landscape-others" }, "Other axes"), this.others), this.run),
      h("div", { class: "landscape-grid" },
        panel("Landscape", { aside: this.legend }, this.empty, this.canvas, this.readout, this.marks),
        panel("What if", {}, this.whatEmpty,
          this.what = h("div", { class: "column", hidden: true }, this.action, h("div", { class: "figures" }, h("div", {}, h("span", { class: "label" }, "energy"), this.energy, this.change)),
            h("div", { class: "figures-grid two" }, h("figure", {}, this.heat, h("figcaption", { class: "muted small" }, "distance from the goal")), this.imageFigure)))));
    this.observer = new ResizeObserver(() => this.draw());
  }

  show(id) {
    if (this.id !== id) { this.answer = null; this.chosen = null; this.what.hidden = true; this.whatEmpty.hidden = false; }
    this.id = id;
    this.store.follow([id]);
    this.listen = (event) => { if (event.detail === id) this.onChange(); };
    this.store.addEventListener("session", this.listen);
    this.observer.observe(this.canvas);
    this.onChange();
    this.draw();
  }

  hide() { this.store.removeEventListener("session", this.listen); this.observer.disconnect(); }

  get session() { return this.store.sessions.get(this.id); }

  onChange() {
    setText(this.title, this.session ? `Energy landscape: ${this.session.title}` : "Energy landscape");
    const may = ["plan", "operate"].includes(this.store.me?.role);
    setEnabled(this.run, may && Boolean(this.session?.plan && this.session.hasLook) && !this.isMeasuring, may ? "The robot has not looked yet." : "It takes a token with the role plan.");
  }

  /** Half of the range of an axis: its limit, times what was asked for. */
  reach(axis) {
    const { max_step_m: step, max_rotation_rad: turn, max_gripper: grip } = this.session.info.action_limits;
    const limit = axis < 3 ? step : axis < 6 ? turn || 0.1 : grip || 1;
    return limit * Number(this.range.value);
  }

  async measure() {
    const [x, y] = [Number(this.x.value), Number(this.y.value)];
    if (x === y) { this.notice("Choose two different axes."); return; }
    const points = Math.min(41, Math.max(3, Math.round(Number(this.points.value))));
    const axis = (index) => ({ axis: AXES[index], low: -this.reach(index), high: this.reach(index), points });
    const around = { zero: Array(7).fill(0), plan: this.session.plan.actions[0], chosen: this.chosen ?? Array(7).fill(0) }[this.others.value];
    this.isMeasuring = true;
    this.onChange();
    setText(this.status, `Measuring ${points * points} actions …`);
    const begun = performance.now();
    try {
      const answer = await send(`/v1/sessions/${this.id}/energy-landscape`, { axes: [axis(y), axis(x)], around });
      this.answer = { ...answer, x, y, points, around, planned: answer.planned_action };
      this.cursor = [Math.floor(points / 2), Math.floor(points / 2)];
      setText(this.status, `Plan ${answer.seq}: ${points * points} actions in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
      this.canvas.dataset.min = answer.best_energy.toFixed(4);
      this.canvas.dataset.points = String(answer.energies.length);
    } catch (error) { setText(this.status, ""); this.notice(error.message); } finally { this.isMeasuring = false; this.onChange(); }
    this.draw();
  }

  draw() {
    this.canvas.hidden = !this.answer;
    this.readout.hidden = !this.answer;
    this.empty.hidden = Boolean(this.answer);
    this.legend.hidden = !this.answer;
    this.marks.hidden = !this.answer;
    if (!this.answer || !this.canvas.clientWidth) return;
    const { context, width, height } = sized(this.canvas);
    context.clearRect(0, 0, width, height);
    const { points, energies, x, y } = this.answer;
    const area = { left: MARGIN.left, top: MARGIN.top, width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    this.area = area;
    const [low, high] = extent(energies);
    setText(this.lowest, number(low));
    setText(this.highest, number(high));
    const [w, hh] = [area.width / points, area.height / points];
    for (let row = 0; row < points; row += 1) {
      for (let column = 0; column < points; column += 1) {
        context.fillStyle = rgb("viridis", (energies[row * points + column] - low) / Math.max(high - low, 1e-9));
        context.fillRect(area.left + column * w, area.top + (points - 1 - row) * hh, w + 0.6, hh + 0.6);
      }
    }
    this.drawAxes(context, area, x, y, height);
    this.mark(context, Array(7).fill(0), "still");
    this.mark(context, this.answer.planned, "plan");
    this.mark(context, this.answer.best_action, "lowest");
    if (this.chosen) this.mark(context, this.chosen, "chosen");
    if (this.cursor && document.activeElement === this.canvas) {
      context.strokeStyle = "#fff";
      context.lineWidth = 2;
      context.strokeRect(area.left + this.cursor[0] * w, area.top + (points - 1 - this.cursor[1]) * hh, w, hh);
    }
  }

  drawAxes(context, area, x, y, height) {
    context.fillStyle = css("--muted");
    context.font = "11px ui-sans-serif, system-ui, sans-serif";
    const ticks = (axis) => [-1, -0.5, 0, 0.5, 1].map((share) => [share, `${Number((share * this.answerReach(axis) * SCALE[axis]).toPrecision(3))}`]);
    context.textAlign = "center";
    for (const [share, text] of ticks(x)) context.fillText(text, area.left + area.width * (0.5 + 0.48 * share), area.top + area.height + 14);
    context.fillText(`${AXES[x]} ${UNITS[x]}`, area.left + area.width / 2, height - 4);
    context.textAlign = "right";
    for (const [share, text] of ticks(y)) context.fillText(text, area.left - 6, area.top + area.height * (0.5 - 0.48 * share) + 4);
    context.textAlign = "left";
    context.fillText(`${AXES[y]} ${UNITS[y]}`, 0, height - 4);
  }

  answerReach(axis) { return Math.max(...this.answer.values[axis === this.answer.y ? 0 : 1]); }

  place(action) {
    const { x, y, points } = this.answer;
    const at = (axis, length) => (0.5 + (action[axis] / (2 * this.answerReach(axis))) * ((points - 1) / points)) * length;
    return [this.area.left + at(x, this.area.width), this.area.top + this.area.height - at(y, this.area.height)];
  }

  mark(context, action, kind) {
    const [px, py] = this.place(action);
    const { shape, fill, radius } = MARKS[kind];
    context.save();
    context.translate(px, py);
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    const path = new Path2D(shape(radius));
    if (fill) { context.fillStyle = fill; context.fill(path); }
    context.lineWidth = fill ? 2 : 4;
    if (!fill) { context.strokeStyle = "rgba(10,12,14,0.8)"; context.stroke(path); context.strokeStyle = "#fff"; context.lineWidth = 2; }
    context.stroke(path);
    context.restore();
  }

  /** The action under a place of the canvas. */
  actionAt(px, py) {
    const { x, y, around } = this.answer;
    const action = [...around];
    action[x] = (2 * (px - this.area.left) / this.area.width - 1) * this.answerReach(x);
    action[y] = (1 - 2 * (py - this.area.top) / this.area.height) * this.answerReach(y);
    return action;
  }

  click(event) {
    if (!this.answer) return;
    const bounds = this.canvas.getBoundingClientRect();
    this.ask(this.actionAt(event.clientX - bounds.left, event.clientY - bounds.top));
  }

  onKey(event) {
    if (!this.answer) return;
    const step = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    const { points, x, y, around, values } = this.answer;
    if (step) {
      this.cursor = this.cursor.map((value, axis) => Math.min(points - 1, Math.max(0, value + step[axis])));
      this.draw();
    } else if (event.key === "Enter") {
      const action = [...around];
      action[x] = values[1][this.cursor[0]];
      action[y] = values[0][this.cursor[1]];
      this.ask(action);
    } else return;
    event.preventDefault();
  }

  async ask(action) {
    this.chosen = action;
    this.draw();
    const { id } = this;
    try {
      const answer = await send(`/v1/sessions/${id}/imagine`, { actions: [action], goal_index: this.answer.goal_index, seq: this.answer.seq });
      const bitmap = await createImageBitmap(await getBlob(`/v1/sessions/${id}/frame?format=jpeg&seq=${answer.seq}`));
      if (this.id !== id) { bitmap.close(); return; }
      this.what.hidden = false;
      this.whatEmpty.hidden = true;
      setText(this.action, action.map((value, axis) => (Math.abs(value) > 1e-9 ? `${AXES[axis]} ${(value * SCALE[axis]).toFixed(1)}${UNITS[axis] && ` ${UNITS[axis]}`}` : null)).filter(Boolean).join(" · ") || "hold still");
      setText(this.energy, number(answer.energy));
      const change = answer.energy - answer.energy_do_nothing;
      setText(this.change, `${change <= 0 ? "−" : "+"}${Math.abs(change).toFixed(3)} against holding still`);
      drawMap(this.heat, bitmap, this.store.model.frame_geometry, answer.heat_steps[0], { low: 0, mask: answer.mask });
      bitmap.close();
      this.imageFigure.hidden = !answer.pictures;
      if (answer.pictures) this.image.src = `data:image/png;base64,${answer.pictures[2]}`;
    } catch (error) { this.notice(error.message); }
  }
}
