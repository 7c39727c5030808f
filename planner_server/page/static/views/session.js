// One robot, live: what it sees, what it wants, how near it is, and what it is about to do.

import { AxesWidget } from "../axes_widget.js";
import { hasCalibration, parseCalibration, removeCalibration, saveCalibration } from "../calibration.js";
import { drawCloud } from "../cloud.js";
import { Controls } from "../controls.js";
import { css, h, milliseconds, number, panel, perFrame, setText } from "../dom.js";
import { FramePanel } from "../frame_panel.js";
import { GoalStrip } from "../goal_strip.js";
import { drawLatency } from "../latency.js";
import { sparkline, TimePlot } from "../plots.js";
import { present } from "../warnings.js";

const NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"];
const SECOND_MS = 1000;
const LEAST_MOVE = 0.0005; // what is not worth a word


/** The view `#/session/ID`. */
export class SessionView {
  constructor({ store, notice }) {
    this.store = store;
    this.notice = notice;
    this.frame = new FramePanel(store);
    this.controls = new Controls(store, notice);
    this.goals = new GoalStrip();
    this.energyPlot = new TimePlot("Energy over time", [
      { label: "now", colour: "--ink" }, { label: "planned", colour: "--plan" }, { label: "holding still", colour: "--still", dash: [5, 4] },
    ], { test: "energy-plot", height: 210 });
    this.posePlot = new TimePlot("Position of the flange over time [m]", [
      { label: "x", colour: "--red" }, { label: "y", colour: "--goal" }, { label: "z", colour: "--plan" }], { test: "pose-plot" });
    this.gripperPlot = new TimePlot("Closedness of the gripper over time", [{ label: "closedness", colour: "--violet" }],
      { test: "gripper-plot", height: 216, range: () => [-0.05, 1.05] });
    this.top = new AxesWidget({ test: "plan-top", label: "The plan from above", across: 1, up: 0, flip: true });
    this.side = new AxesWidget({ test: "plan-side", label: "The plan from the side", across: 0, up: 2 });
    this.draw = perFrame(() => this.render());
    this.build();
  }

  build() {
    const value = (name) => { this[name] = h("output", { class: "figure", test: name }, "–"); return this[name]; };
    const figure = (name, label, dot) => h("div", {}, h("span", { class: `label ${dot}` }, label), value(name));
    this.pose = NAMES.map((name) => h("output", { test: `pose-${name}` }, "–"));
    this.cloud = h("canvas", { class: "cloud", test: "candidates", role: "img", "aria-label": "First steps of the candidates of the last search" });
    this.elites = h("span", { class: "muted", test: "elites" });
    this.iteration = h("input", { id: "iteration", type: "range", min: "1", max: "1", value: "1", test: "iteration", oninput: () => { this.isIterationChosen = true; this.renderSearch(this.store.sessions.get(this.id)); } });
    this.iterationText = h("output", { class: "muted" });
    this.iterationRow = h("div", { class: "iteration-row small", hidden: true }, h("label", { for: "iteration" }, "Iteration"), this.iteration, this.iterationText);
    this.iterations = h("canvas", { class: "iterations", test: "iterations-plot", role: "img", "aria-label": "Lowest energy known after each iteration" });
    this.latency = h("canvas", { class: "latency", test: "latency", role: "img", "aria-label": "Where the time of the last plans went", "data-late": "0" });
    const part = (name, dot) => { const out = h("span"); return [out, h("span", {}, h("span", { class: `label ${dot}` }, name, " ", out))]; };
    [this.queueText, this.queueBox] = part("queue", "dot-still");
    [this.encodeText, this.encodeBox] = part("encode", "dot-encode");
    [this.searchText, this.searchBox] = part("search", "dot-plan");
    this.patience = h("span");
    this.latencyText = h("p", { class: "parts" }, this.queueBox, this.encodeBox, this.searchBox, this.patience);
    this.late = h("span", { class: "muted" });
    this.warnings = h("ul", { class: "warnings", test: "warnings", "data-kinds": "" });
    this.action = h("p", { class: "next-action", test: "next-action" });
    this.title = h("h1", {}, "");
    this.subtitle = h("p", { class: "muted small" }, h("code", { test: "session-id" }), h("span"));
    this.seq = h("output", { test: "plan-seq" }, "–");
    this.lag = h("output", { test: "stream-lag" }, "–");
    this.calibration = h("input", { type: "file", accept: "application/json,.json", class: "visually-hidden", id: "calibration-file", "aria-label": "Camera calibration file", onchange: (event) => this.calibrate(event.target.files[0]) });
    this.calibrate_button = h("button", { class: "quiet small", onclick: () => this.switchCalibration() }, "Calibrate camera");
    this.element = h("section", { class: "view session", test: "view-session" },
      h("div", { class: "view-head" }, h("div", {}, this.title, this.subtitle), this.controls.element),
      this.warnings,
      h("div", { class: "live-grid" },
        h("div", { class: "column" },
          panel("What the robot sees", { aside: h("div", { class: "row" }, this.frame.toggle, this.calibrate_button) }, this.calibration, this.frame.element),
          panel("Goals", { aside: this.goals.link }, this.goals.element),
          panel("Latency", { aside: this.late }, this.latency, this.latencyText)),
        h("div", { class: "column wide" },
          panel("Energy", { class: "energy-panel" },
            h("div", { class: "figures" }, figure("energy-now", "now", "dot-now"), figure("energy", "after the plan", "dot-plan"), figure("energy-still", "holding still", "dot-still")),
            this.energyPlot.element),
          h("div", { class: "pair" },
            panel("Plan", { aside: h("span", { class: "muted" }, "from above · from the side") }, h("div", { class: "axes-pair" }, this.top.element, this.side.element), this.action),
            panel("Search", { aside: this.elites }, this.cloud, this.iterationRow, h("p", { class: "muted small" }, "Lowest energy after each iteration"), this.iterations)),
          h("div", { class: "pair" },
            panel("Pose", {}, h("dl", { class: "pose" }, ...NAMES.map((name, index) => h("div", {}, h("dt", { class: `pose-${name}` }, name), h("dd", {}, this.pose[index])))),
              this.posePlot.element),
            panel("Gripper", {}, this.gripperPlot.element)))),
      h("p", { class: "muted small foot" }, "Plan ", this.seq, " · on this page after ", this.lag));
  }

  show(id) {
    if (this.id !== id) { this.frame.reset(); this.goals.reset(); }
    this.id = id;
    this.store.follow([id]);
    for (const plot of [this.energyPlot, this.posePlot, this.gripperPlot]) plot.mount();
    this.listen = (event) => { if (event.detail === this.id) this.draw(); };
    for (const type of ["session", "frame"]) this.store.addEventListener(type, this.listen);
    this.timer = setInterval(this.draw, SECOND_MS);
    this.draw();
  }

  hide() {
    clearInterval(this.timer);
    for (const type of ["session", "frame"]) this.store.removeEventListener(type, this.listen);
    for (const plot of [this.energyPlot, this.posePlot, this.gripperPlot]) plot.unmount();
  }

  render() {
    const session = this.store.sessions.get(this.id);
    if (!session || !this.element.isConnected) return;
    setText(this.title, session.title);
    setText(this.subtitle.firstChild, session.id);
    setText(this.subtitle.lastChild, ` · planner ${session.info.planner} · ${session.info.plans} plans`);
    setText(this.calibrate_button, hasCalibration(session.id) ? "Remove calibration" : "Calibrate camera");
    this.controls.update(session);
    this.goals.update(session);
    this.frame.update(session);
    this.renderWarnings(session);
    if (session.plan && this.drawnPlan !== session.plan) this.renderPlan(session);
    setText(this.lag, milliseconds(session.lagMs));
    this.lag.dataset.ms = Number.isFinite(session.lagMs) ? session.lagMs.toFixed(1) : "";
  }

  renderPlan(session) {
    const { plan, course } = session;
    this.drawnPlan = plan;
    const columns = course.data();
    setText(this["energy-now"], number(plan.energy_now));
    setText(this.energy, number(plan.energy));
    setText(this["energy-still"], number(plan.energy_do_nothing));
    this.energyPlot.set([columns[0], columns[1], columns[2], columns[3]]);
    this.posePlot.set([columns[0], columns[4], columns[5], columns[6]]);
    this.gripperPlot.set([columns[0], columns[10]]);
    plan.state.forEach((value, index) => setText(this.pose[index], number(value, index < 3 ? 3 : 2)));
    const trail = [...columns[4]].map((x, index) => [x, columns[5][index], columns[6][index]]);
    const limit = session.info.action_limits.max_step_m;
    for (const widget of [this.top, this.side]) widget.draw(trail, plan.state, plan.predicted_states, limit, session.info.options.workspace);
    this.renderSearch(session);
    setText(this.action, `Next: ${worded(plan.actions[0])}`);
    this.renderLatency(session, columns);
    setText(this.seq, String(plan.seq));
  }

  /** The candidates of one iteration: the last one, until the operator chooses another. */
  renderSearch({ plan, info }) {
    sparkline(this.iterations, plan.energy_per_iteration.map((each) => each ?? NaN), css("--plan"));
    if (!plan.candidates) return;
    const { iterations = [], elites } = plan.candidates;
    this.iterationRow.hidden = iterations.length < 2;
    this.iteration.max = String(Math.max(1, iterations.length));
    if (!this.isIterationChosen) this.iteration.value = this.iteration.max;
    const place = Number(this.iteration.value);
    setText(this.iterationText, `${place} of ${iterations.length}`);
    const isLast = iterations.length === 0 || place >= iterations.length;
    const shown = isLast ? plan.candidates : { ...iterations[place - 1], elites };
    const reachM = drawCloud(this.cloud, shown, plan.actions[0], info.action_limits.max_step_m);
    this.cloud.dataset.count = String(shown.actions.length);
    setText(this.elites, `best ${Math.min(elites, shown.actions.length)} of ${plan.evaluations} ringed · ±${number(100 * reachM, reachM < 0.01 ? 1 : 0)} cm`);
  }

  renderLatency({ info, plan, lateCount }, columns) {
    const patience = info.options.deadline_ms ?? this.store.model.deadline_ms ?? 1000 * info.control_period_s;
    drawLatency(this.latency, columns, patience);
    this.latency.dataset.late = String(info.late);
    setText(this.late, `${Math.max(info.late, lateCount)} late of ${info.plans}`);
    setText(this.queueText, milliseconds(plan.queue_ms));
    setText(this.encodeText, milliseconds(plan.encode_ms));
    setText(this.searchText, milliseconds(plan.plan_ms));
    setText(this.patience, `of ${milliseconds(patience)}`);
  }

  renderWarnings(session) {
    const found = present(session);
    const text = found.map(({ kind, text: words }) => kind + words).join("|");
    if (text === this.shownWarnings) return;
    this.shownWarnings = text;
    this.warnings.dataset.kinds = [...new Set(found.map(({ kind }) => kind))].join(",");
    this.warnings.replaceChildren(...found.map(({ kind, text: words }) => h("li", { "data-kind": kind }, h("strong", {}, kind), words)));
  }

  switchCalibration() {
    if (hasCalibration(this.id)) { removeCalibration(this.id); this.draw(); } else this.calibration.click();
  }

  async calibrate(file) {
    if (!file) return;
    try { saveCalibration(this.id, parseCalibration(await file.text())); this.draw(); }
    catch (error) { this.notice(`${file.name} is no camera calibration: ${error.message}`); }
    this.calibration.value = "";
  }
}

/** An action in words: only what it changes. */
function worded(action) {
  const parts = action.map((value, axis) => {
    const shown = axis < 3 ? 100 * value : axis < 6 ? value * 180 / Math.PI : value;
    if (Math.abs(value) < LEAST_MOVE) return null;
    return `${NAMES[axis]} ${shown > 0 ? "+" : "−"}${Math.abs(shown).toFixed(axis < 6 ? 1 : 2)}${axis < 3 ? " cm" : axis < 6 ? "°" : ""}`;
  });
  return parts.filter(Boolean).join(", ") || "hold still";
}
