// The newest frame, large: with the heat of the tokens, what the model does not see, and the plan where it can be drawn.

import { request } from "./api.js";
import { projectionOf } from "./calibration.js";
import { css, h, sized } from "./dom.js";
import { drawArrow, drawHeat, drawUnseen, total, visiblePart } from "./picture.js";

const SHARP_EVERY_MS = 500;

/** A canvas that shows a session's newest frame. */
export class FramePanel {
  constructor(store) {
    this.store = store;
    this.canvas = h("canvas", { class: "frame", test: "frame", role: "img", "aria-label": "What the robot sees now", "data-frames": "0" });
    this.heat = h("canvas", { class: "frame overlay", test: "heat", "aria-hidden": "true", "data-sum": "" });
    this.toggle = h("button", { class: "quiet small", test: "heat-toggle", "aria-pressed": "true", onclick: () => this.switchHeat() }, "Distance map");
    this.empty = h("p", { class: "empty" }, "No frame yet. It appears with the robot's first observation.");
    this.element = h("div", { class: "frame-box" }, this.canvas, this.heat, this.empty);
    this.sharp = null;
    this.drawn = 0;
    this.isHeatOn = true;
  }

  switchHeat() {
    this.isHeatOn = !this.isHeatOn;
    this.toggle.setAttribute("aria-pressed", String(this.isHeatOn));
    this.heat.hidden = !this.isHeatOn;
    if (this.session) this.drawHeat(this.session);
  }

  /** Forget the session before. */
  reset() {
    this.sharp?.bitmap.close();
    this.sharp = null;
    this.lastSeq = null;
  }

  update(session) {
    this.session = session;
    this.fetchSharp(session);
    const seq = session.plan?.seq;
    const isSharp = this.sharp && (this.sharp.seq === seq || !session.frame);
    const bitmap = isSharp ? this.sharp.bitmap : session.frame;
    this.empty.hidden = Boolean(bitmap);
    this.element.classList.toggle("is-empty", !bitmap);
    if (!bitmap) return;
    const aspect = bitmap.width / bitmap.height;
    this.element.style.aspectRatio = String(aspect);
    const { context, width, height } = sized(this.canvas);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
    const box = this.box(bitmap, width, height);
    drawUnseen(context, width, height, box);
    this.drawPlan(context, session, width, height);
    if (this.lastSeq !== seq) {
      this.lastSeq = seq;
      this.drawn += 1;
      this.canvas.dataset.frames = String(this.drawn);
      this.canvas.dataset.seq = String(seq);
    }
    this.size = { box, width, height };
    this.drawHeat(session);
  }

  box(bitmap, width, height) {
    const part = visiblePart(bitmap.width, bitmap.height, this.store.model.frame_geometry);
    return { left: part.left * width, top: part.top * height, width: part.width * width, height: part.height * height };
  }

  drawHeat(session) {
    const { context, width, height } = sized(this.heat);
    context.clearRect(0, 0, width, height);
    const grid = session.plan?.heat;
    if (!this.isHeatOn || !grid || !this.size) return;
    drawHeat(context, this.size.box, grid, { low: 0, high: session.heatMost, alpha: 0.62 });
    this.heat.dataset.sum = total(grid).toFixed(3);
  }

  drawPlan(context, session, width, height) {
    const project = projectionOf(session.id);
    if (!project || !session.plan) return;
    const places = [session.plan.state, ...session.plan.predicted_states].map((pose) => project(pose));
    for (let index = 1; index < places.length; index += 1) {
      const [from, to] = [places[index - 1], places[index]];
      if (from && to) drawArrow(context, [from[0] * width, from[1] * height], [to[0] * width, to[1] * height], css("--plan"));
    }
  }

  /** The stream carries small pictures; the whole frame is fetched now and then. */
  async fetchSharp(session) {
    const seq = session.plan?.seq;
    const now = performance.now();
    if (seq === undefined || !session.hasLook || this.isFetching || this.sharp?.seq === seq || now - (this.askedAt ?? -1e9) < SHARP_EVERY_MS) return;
    this.isFetching = true;
    this.askedAt = now;
    try {
      const response = await request(`/v1/sessions/${session.id}/frame?format=jpeg`);
      const bitmap = await createImageBitmap(await response.blob());
      if (this.session !== session) { bitmap.close(); return; }
      this.sharp?.bitmap.close();
      this.sharp = { seq: Number(response.headers.get("X-Seq")), bitmap };
      this.store.tell("frame", session.id);
    } catch { /* the small picture stays */ } finally { this.isFetching = false; }
  }
}
