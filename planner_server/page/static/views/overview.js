// All robots at a glance, each with its own hold and stop.

import { Controls } from "../controls.js";
import { css, duration, h, number, perFrame, setEnabled, setText, sized } from "../dom.js";
import { NewSession } from "../new_session.js";
import { drawHeat, visiblePart } from "../picture.js";
import { sparkline } from "../plots.js";
import { present } from "../warnings.js";

/** The view `#/`. */
export class OverviewView {
  constructor({ store, notice }) {
    this.store = store;
    this.notice = notice;
    this.cards = new Map();
    this.grid = h("div", { class: "cards" });
    this.add = h("button", { test: "new-session", onclick: () => this.making.open() }, "New session");
    this.making = new NewSession(store, (info) => this.go(info));
    this.empty = h("div", { class: "empty big" },
      h("h2", {}, "No robot is connected"),
      h("p", {}, "Start one, and it appears here:"),
      h("pre", {}, h("code", {}, "robot-client run --arm sim --goal goal.png")),
      h("p", { class: "muted" }, "Or make a session first, give it goals, and let the robot join it by its id."));
    this.count = h("p", { class: "muted small" });
    this.element = h("section", { class: "view overview", test: "view-overview" },
      h("div", { class: "view-head" }, h("div", {}, h("h1", {}, "Robots"), this.count), this.add), this.empty, this.grid);
    this.draw = perFrame(() => this.render());
  }

  show() {
    this.store.follow(null);
    this.listen = () => this.draw();
    for (const type of ["session", "frame", "list", "account"]) this.store.addEventListener(type, this.listen);
    this.timer = setInterval(this.draw, 1000);
    this.draw();
  }

  hide() {
    clearInterval(this.timer);
    for (const type of ["session", "frame", "list", "account"]) this.store.removeEventListener(type, this.listen);
  }

  async go(info) {
    await this.store.refresh().catch(() => {});
    location.hash = `#/goals/${info.id}`;
  }

  render() {
    if (!this.element.isConnected) return;
    const sessions = [...this.store.sessions.values()];
    const may = ["plan", "operate"].includes(this.store.me?.role);
    setEnabled(this.add, may, "It takes a token with the role plan.");
    this.empty.hidden = sessions.length > 0 || !this.store.isListKnown;
    setText(this.count, sessions.length ? `${sessions.length} open session${sessions.length > 1 ? "s" : ""}` : "");
    for (const [id, card] of this.cards) if (!this.store.sessions.has(id)) { card.element.remove(); this.cards.delete(id); }
    for (const session of sessions) {
      if (!this.cards.has(session.id)) {
        const card = new Card(this.store, this.notice, session);
        this.cards.set(session.id, card);
        this.grid.append(card.element);
      }
      this.cards.get(session.id).update(session);
    }
  }
}

class Card {
  constructor(store, notice, session) {
    this.store = store;
    this.controls = new Controls(store, notice);
    this.canvas = h("canvas", { class: "frame", test: "card-frame", "aria-hidden": "true" });
    this.blank = h("span", { class: "empty" }, "No frame yet");
    this.line = h("canvas", { class: "spark", "aria-hidden": "true" });
    this.energy = h("output", { class: "figure", test: "card-energy" }, "–");
    this.goal = h("span", { class: "muted small" });
    this.warning = h("p", { class: "card-warning" });
    this.title = h("a", { href: `#/session/${session.id}` }, session.title);
    this.element = h("article", { class: "panel card", test: "session-card", "data-session": session.id },
      h("a", { class: "card-frame", href: `#/session/${session.id}`, tabindex: "-1", "aria-hidden": "true" }, this.canvas, this.blank),
      h("div", { class: "card-body" }, h("h2", {}, this.title, h("span", { class: "muted small" }, session.info.options.task ? ` ${session.id.slice(0, 6)}` : "")),
        h("div", { class: "card-energy" }, h("div", {}, h("span", { class: "label" }, "energy"), this.energy), this.line),
        this.goal, this.warning, this.controls.element));
  }

  update(session) {
    setText(this.title, session.title);
    this.controls.update(session);
    const { info, plan, course } = session;
    setText(this.energy, number(plan?.energy_now));
    const goals = info.goals.length;
    setText(this.goal, goals ? `goal ${Math.min(info.goal_index + 1, goals)} of ${goals} · step ${info.goal_steps}` : `no goal yet · idle for ${duration(info.idle_s)}`);
    const [first] = present(session);
    setText(this.warning, first ? `${first.kind}: ${first.text}` : "");
    this.warning.title = first?.text ?? "";
    if (this.drawn === session.plans && this.bitmap === session.frame) return;
    this.drawn = session.plans;
    this.element.dataset.plans = String(session.plans);
    this.bitmap = session.frame;
    sparkline(this.line, [...course.data()[1]].slice(-120), css("--ink"));
    this.blank.hidden = Boolean(session.frame);
    setText(this.blank, plan ? "No frame since the server started" : "No frame yet");
    if (!session.frame) return;
    const { context, width, height } = sized(this.canvas);
    const { width: w, height: hh } = session.frame;
    const scale = Math.max(width / w, height / hh); // fill, as object-fit: cover does
    const [left, top] = [(width - w * scale) / 2, (height - hh * scale) / 2];
    context.drawImage(session.frame, left, top, w * scale, hh * scale);
    this.canvas.dataset.seq = String(session.frameSeq ?? plan?.seq ?? "");
    if (plan?.heat) {
      const part = visiblePart(w, hh, this.store.model.frame_geometry);
      drawHeat(context, { left: left + part.left * w * scale, top: top + part.top * hh * scale, width: part.width * w * scale, height: part.height * hh * scale }, plan.heat, { low: 0, high: session.heatMost, alpha: 0.45 });
    }
  }
}
