// STOP ALL: always in sight, on the space bar, and not finished before every robot has answered.

import { send } from "./api.js";
import { h, milliseconds, setText } from "./dom.js";

const WRITTEN_IN = "input:not([type=button]):not([type=submit]):not([type=checkbox]):not([type=radio]):not([type=range]):not([type=file]), textarea, [contenteditable=true]";
const SHOWN_MS = 20_000;

/** The button, the key, and the line that says what came of it. */
export class StopAll {
  constructor(store) {
    this.store = store;
    this.status = h("p", { class: "stop-status", role: "status", test: "stop-status", "data-state": "idle" });
    this.button = h("button", { class: "stop-all", test: "stop-all", "aria-keyshortcuts": "Space", onclick: () => this.stop("button") },
      h("span", {}, "Stop all"), h("kbd", { "aria-hidden": "true" }, "space"));
    window.addEventListener("keydown", (event) => this.onKey(event), { capture: true });
    // A focused button is pressed when the space bar comes up; that press was for STOP.
    window.addEventListener("keyup", (event) => { if (isStopKey(event)) event.preventDefault(); }, { capture: true });
  }

  onKey(event) {
    if (!isStopKey(event)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) this.stop("space bar");
  }

  async stop(how) {
    this.say("sent", "Stop sent to every robot …");
    const begun = performance.now();
    try {
      const answer = await send("/v1/stop-all", { reason: `stop all, ${how}` }, { priority: "high", keepalive: true });
      this.report(answer, performance.now() - begun);
    } catch (error) {
      this.say("failed", `NOT STOPPED: ${error.message} Use the button beside the arm.`);
    }
    this.store.refresh().catch(() => {});
  }

  report({ sessions, obeyed_ms: obeyedMs, standing_ms: standingMs }, waitedMs) {
    const robots = sessions.filter((session) => session.is_connected);
    // An answer alone is not enough: the arm has to stand, and be known to.
    const obeyed = robots.filter((session) => session.arm === "standing");
    const idle = sessions.length - robots.length;
    const rest = idle ? ` ${count(idle, "session")} without a robot ${idle === 1 ? "is" : "are"} stopped too.` : "";
    if (!robots.length) {
      this.say("acknowledged", sessions.length ? `No robot is connected.${rest}` : "No session is open; nothing moves.");
      return;
    }
    const standing = standingMs === null || standingMs === undefined ? "" : `, standing after ${milliseconds(standingMs)}`;
    const text = `${obeyed.length} of ${count(robots.length, "robot")} stopped after ${milliseconds(obeyedMs ?? waitedMs)}${standing}.`;
    if (obeyed.length === robots.length) this.say("acknowledged", text + rest);
    else this.say("partly", `${text} ${robots.length - obeyed.length} did not report an arm at rest: use the button beside the arm.`);
  }

  say(state, text) {
    this.status.dataset.state = state;
    setText(this.status, text);
    clearTimeout(this.timer);
    if (state === "acknowledged") this.timer = setTimeout(() => this.say("idle", ""), SHOWN_MS);
  }
}

const isStopKey = (event) => event.code === "Space" && !event.ctrlKey && !event.altKey && !event.metaKey
  && !(event.target instanceof Element && event.target.closest(WRITTEN_IN));
const count = (amount, noun) => `${amount} ${noun}${amount === 1 ? "" : "s"}`;
