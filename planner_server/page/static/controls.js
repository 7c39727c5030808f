// Hold, resume and stop one robot, and what it said to that.

import { send } from "./api.js";
import { h, milliseconds, setEnabled, setText } from "./dom.js";

const WORD = { running: "Running", paused: "Holding", stopped: "Stopped" };
const SAID = { stopping: "heard, but still moving", unknown: "arm unknown: look at it" };
const NOT_ALLOWED = "Your token may not do this; it takes one with the role operate.";

/** Buttons for one session; `update(session)` brings them up to date. */
export class Controls {
  constructor(store, notice) {
    this.store = store;
    this.notice = notice;
    this.state = h("span", { class: "state", test: "state" });
    this.order = h("span", { class: "order muted", test: "order-status", "aria-live": "polite" });
    this.pause = h("button", { test: "pause", onclick: () => this.give("pause") }, "Hold");
    this.resume = h("button", { test: "resume", onclick: () => this.give("resume") }, "Resume");
    this.stop = h("button", { class: "danger", test: "stop", onclick: () => this.give("stop") }, "Stop");
    this.element = h("div", { class: "controls" }, h("div", { class: "row" }, this.state, this.order),
      h("div", { class: "row buttons" }, this.pause, this.resume, this.stop));
  }

  async give(order) {
    try {
      const info = await send(`/v1/sessions/${this.session.id}/${order}`, { reason: "" }, { priority: "high" });
      this.session.info = info;
      this.update(this.session);
    } catch (error) { this.notice(error.message); }
  }

  update(session) {
    this.session = session;
    const { state, order, is_order_obeyed: isObeyed } = session.info;
    setText(this.state, WORD[state]);
    this.state.dataset.state = state;
    setText(this.order, order ? told(session, isObeyed) : "");
    this.order.dataset.obeyed = String(isObeyed);
    const may = this.store.me?.role === "operate";
    setEnabled(this.pause, may && state === "running", may ? "It holds already." : NOT_ALLOWED);
    setEnabled(this.resume, may && state !== "running", may ? "It is running." : NOT_ALLOWED);
    setEnabled(this.stop, may && state !== "stopped", may ? "It is stopped." : NOT_ALLOWED);
  }
}

function told(session, isObeyed) {
  if (!isObeyed) return SAID[session.info.arm] ?? "waiting for the robot";
  const { order } = session;
  if (!order || !Number.isFinite(order.afterMs)) return "obeyed";
  const standing = Number.isFinite(order.standingMs) ? `, standing after ${milliseconds(order.standingMs)}` : "";
  return `obeyed after ${milliseconds(order.afterMs)}${standing}`;
}
