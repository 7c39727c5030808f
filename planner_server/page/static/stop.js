// STOP ALL: always in sight, on the space bar, and not finished before every robot has reported an arm at rest.

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
    try {
      const answer = await send("/v1/stop-all", { reason: `stop all, ${how}` }, { priority: "high", keepalive: true });
      this.report(answer);
    } catch (error) {
      this.say("failed", `NOT STOPPED: ${error.message} Use the button beside the arm.`);
    }
    this.store.refresh().catch(() => {});
  }

  report({ sessions, problem, obeyed_ms: answeredMs, standing_ms: stoodMs }) {
    const robots = sessions.filter((session) => session.is_connected);
    // An answer alone is not enough: the arm has to stand, and be known to.
    const standing = robots.filter((session) => session.arm === "standing");
    const elsewhere = sessions.filter((session) => session.is_connected === null);
    const parts = [];
    if (robots.length) {
      const answered = Number.isFinite(answeredMs) ? `, the last answer came after ${milliseconds(answeredMs)}` : "";
      const stood = Number.isFinite(stoodMs) ? `, the last arm stood after ${milliseconds(stoodMs)}` : "";
      parts.push(`${standing.length} of ${count(robots.length, "robot")} standing${answered}${stood}.`);
    } else if (sessions.length) parts.push("No robot is connected here.");
    else if (!problem) parts.push("No robot is known to this server: look at the arms.");
    const idle = sessions.length - robots.length - elsewhere.length;
    if (idle) parts.push(`${count(idle, "session")} without a robot ${idle === 1 ? "is" : "are"} stopped too.`);
    if (elsewhere.length) parts.push(`${count(elsewhere.length, "session")} may have a robot at another replica, which tells it: look at the arms.`);
    const silent = robots.length - standing.length;
    if (silent) parts.push(`${silent} did not report an arm at rest: use the button beside the arm.`);
    if (problem) parts.push(`NOT ALL ARE STOPPED: ${problem}. Use the buttons beside the arms.`);
    // Where nobody is known nobody was told, and a robot that has lost its session may still move.
    const isSure = sessions.length && !silent && !elsewhere.length && !problem;
    this.say(isSure ? "acknowledged" : "partly", parts.join(" "));
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
