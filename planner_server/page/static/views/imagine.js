// What the model expects of the plan: pictures where it has a decoder, and where the energy comes from in any case.

import { getBlob, send } from "../api.js";
import { extent } from "../colours.js";
import { h, number, panel, setEnabled, setText, sized } from "../dom.js";
import { drawHeat, total, visiblePart } from "../picture.js";

const AUTO_EVERY_MS = 1000;
const LEAST_GAIN = 0.3; // of the largest distance: less of it is no strong colour

/** The view `#/imagine/ID`. */
export class ImagineView {
  constructor({ store, notice }) {
    this.store = store;
    this.notice = notice;
    const canvas = (test, label) => h("canvas", { class: "square", test, role: "img", "aria-label": label });
    this.run = h("button", { class: "primary", test: "imagine-run", onclick: () => this.ask() }, "Imagine the plan");
    this.auto = h("button", { test: "imagine-auto", "aria-pressed": "false", onclick: () => this.switchAuto() }, "Follow the robot");
    this.step = h("input", { id: "imagine-step", type: "range", min: "1", max: "1", value: "1", test: "imagine-step", oninput: () => this.draw() });
    this.stepRow = h("div", { class: "row" }, h("label", { for: "imagine-step" }, "After action"), this.step, this.stepText = h("output", {}, "1"));
    this.frame = canvas("imagine-frame", "What the robot sees now, as the model sees it");
    this.goal = canvas("imagine-goal", "The goal, as the model sees it");
    this.heatNow = canvas("imagine-heat-now", "Distance of every patch from the goal, now");
    this.heatNext = canvas("imagine-heat-next", "Distance of every patch from the goal, as predicted");
    this.heatGain = canvas("imagine-heat-gain", "How much nearer to the goal every patch is predicted to come");
    this.decoded = h("img", { class: "square", test: "imagine-decoded", alt: "The next frame, drawn from the predicted tokens" });
    this.noDecoder = h("p", { class: "empty", test: "imagine-no-decoder" }, "This model has no decoder, so what it imagines cannot be drawn. The maps below need none.");
    this.redrawn = h("img", { class: "square", test: "imagine-redrawn", alt: "The present frame, drawn from its own tokens" });
    const value = (label, dot) => { const out = h("output", { class: "figure" }, "–"); return [out, h("div", {}, h("span", { class: `label ${dot}` }, label), out)]; };
    const [now, nowBox] = value("energy now", "dot-now");
    const [after, afterBox] = value("after the plan", "dot-plan");
    const [still, stillBox] = value("holding still", "dot-still");
    this.energies = { now, after, still };
    this.note = h("p", { class: "muted small", role: "status" });
    this.numbers = h("div", { class: "numbers" }, nowBox, afterBox, stillBox, this.note);
    this.empty = h("p", { class: "empty big" }, "Nothing imagined yet. The robot must have looked once; then press “Imagine the plan”.");
    const figure = (element, text, note) => h("figure", {}, element, h("figcaption", {}, h("strong", {}, text), h("span", { class: "muted small" }, note)));
    this.results = h("div", { class: "column" },
      panel("Pictures", { aside: this.stepRow }, h("div", { class: "figures-grid" },
        figure(this.frame, "Now", "what the robot sees"),
        this.decodedFigure = figure(this.decoded, "Imagined", "after the plan, drawn from predicted tokens"),
        figure(this.goal, "Goal", "what it wants to see"),
        this.redrawnFigure = figure(this.redrawn, "Now, redrawn", "how well the decoder draws at all"), this.noDecoder)),
      panel("Where the energy comes from", { aside: h("span", { class: "legend" }, h("span", {}, "near"), h("span", { class: "ramp inferno" }), h("span", {}, "far from the goal")) },
        h("div", { class: "figures-grid" },
          figure(this.heatNow, "Now", "distance of each patch from the goal"),
          figure(this.heatNext, "After the plan", "the same, predicted"),
          figure(this.heatGain, "Gain", "teal: nearer, brown: further away"), this.numbers)));
    this.title = h("h1", {}, "Imagine");
    this.element = h("section", { class: "view imagine", test: "view-imagine" },
      h("div", { class: "view-head" }, h("div", {}, this.title, h("p", { class: "muted small" }, "What the model expects to see if the newest plan is carried out.")), h("div", { class: "row" }, this.auto, this.run)),
      this.empty, this.results);
  }

  show(id) {
    if (this.id !== id) { this.answer = null; this.pictures = null; }
    this.id = id;
    this.store.follow([id]);
    this.listen = (event) => { if (event.detail === id) this.onChange(); };
    this.store.addEventListener("session", this.listen);
    this.render();
    this.onChange();
  }

  hide() { this.store.removeEventListener("session", this.listen); }

  onChange() {
    const session = this.store.sessions.get(this.id);
    setText(this.title, session ? `Imagine: ${session.title}` : "Imagine");
    const may = ["plan", "operate"].includes(this.store.me?.role);
    setEnabled(this.run, may && Boolean(session?.hasLook), may ? "The robot has not looked yet." : "It takes a token with the role plan.");
    const isDue = performance.now() - (this.askedAt ?? -1e9) > AUTO_EVERY_MS;
    if (this.isAuto && isDue && session?.plan && session.hasLook && session.plan.seq !== this.answer?.seq) this.ask();
  }

  switchAuto() {
    this.isAuto = !this.isAuto;
    this.auto.setAttribute("aria-pressed", String(this.isAuto));
    if (this.isAuto) this.onChange();
  }

  async ask() {
    if (this.isAsking) return;
    this.isAsking = true;
    this.askedAt = performance.now();
    const { id } = this;
    try {
      const answer = await send(`/v1/sessions/${id}/imagine`, {});
      const [frame, goal] = await Promise.all([
        getBlob(`/v1/sessions/${id}/frame?format=jpeg&seq=${answer.seq}`), getBlob(`/v1/sessions/${id}/goals/${answer.goal_index}/image`)]);
      const pictures = { frame: await createImageBitmap(frame), goal: await createImageBitmap(goal) };
      if (this.id !== id) return;
      this.pictures?.frame.close();
      this.pictures?.goal.close();
      this.answer = answer;
      this.pictures = pictures;
      this.step.max = String(answer.actions.length);
      this.step.value = String(answer.actions.length);
      this.render();
    } catch (error) { this.notice(error.message); this.isAuto = false; this.auto.setAttribute("aria-pressed", "false"); } finally { this.isAsking = false; }
  }

  render() {
    this.empty.hidden = Boolean(this.answer);
    this.results.hidden = !this.answer;
    if (this.answer) this.draw();
  }

  draw() {
    const { answer, pictures } = this;
    const index = Number(this.step.value) - 1;
    this.stepRow.hidden = answer.actions.length < 2;
    setText(this.stepText, String(index + 1));
    drawCrop(this.frame, pictures.frame, this.store.model.frame_geometry);
    drawCrop(this.goal, pictures.goal, this.store.model.frame_geometry);
    const hasPictures = Boolean(answer.pictures);
    this.decodedFigure.hidden = !hasPictures;
    this.redrawnFigure.hidden = !hasPictures;
    this.noDecoder.hidden = hasPictures;
    if (hasPictures) {
      this.decoded.src = `data:image/png;base64,${answer.pictures[2 + index]}`;
      this.redrawn.src = `data:image/png;base64,${answer.pictures[0]}`;
    }
    const next = answer.heat_steps[index];
    const [, high] = extent([answer.heat_now, next]);
    drawMap(this.heatNow, pictures.frame, this.store.model.frame_geometry, answer.heat_now, { low: 0, high, mask: answer.mask });
    drawMap(this.heatNext, pictures.frame, this.store.model.frame_geometry, next, { low: 0, high, mask: answer.mask });
    const gain = answer.heat_now.map((row, y) => row.map((value, x) => value - next[y][x]));
    const reach = Math.max(...gain.flat().map(Math.abs), LEAST_GAIN * high, 1e-9);
    drawMap(this.heatGain, pictures.frame, this.store.model.frame_geometry, gain, { low: -reach, high: reach, map: "gain", fade: false, alpha: 0.72, mask: answer.mask });
    const share = 100 * (1 - answer.energy / answer.energy_now);
    setText(this.energies.now, number(answer.energy_now));
    setText(this.energies.after, number(answer.energy));
    setText(this.energies.still, number(answer.energy_do_nothing));
    setText(this.note, `The plan is expected to take ${share >= 0 ? "" : "−"}${Math.abs(share).toFixed(0)} % off. Plan ${answer.seq}, goal ${answer.goal_index + 1}.`);
  }
}

/** Draw what the model sees of a picture. */
export function drawCrop(canvas, bitmap, geometry) {
  const part = visiblePart(bitmap.width, bitmap.height, geometry);
  const { context, width, height } = sized(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, part.left * bitmap.width, part.top * bitmap.height, part.width * bitmap.width, part.height * bitmap.height, 0, 0, width, height);
  return { context, width, height };
}

/** The same, with a map of patches over it. */
export function drawMap(canvas, bitmap, geometry, grid, options) {
  const { context, width, height } = drawCrop(canvas, bitmap, geometry);
  drawHeat(context, { left: 0, top: 0, width, height }, grid, options);
  canvas.dataset.sum = total(grid).toFixed(3);
}
