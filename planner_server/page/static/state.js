// What the page knows of the sessions: fed by the event stream and by a look at the list every two seconds.

import { getBlob, getJson } from "./api.js";
import { Feed } from "./events.js";
import { Ring } from "./ring.js";
import { judge } from "./warnings.js";

const KEPT_PLANS = 600;
const LIST_EVERY_MS = 2000;
const SAME_S = 0.02; // an event and the record of it are written this near to each other
const MOST_FOLLOWED = 16; // by one stream
const HOLDING = ["paused", "stopped"]; // no problem: the state says it
const OBEYED = ["standing", "free"]; // what a robot says of an arm that does what was ordered

/** One session: its description, its newest plan, and the course of its numbers. */
export class SessionState {
  constructor(info) {
    this.id = info.id;
    this.info = info;
    this.plan = null;
    this.frame = null; // ImageBitmap of the newest observation
    this.plans = 0; // events applied
    this.lateCount = 0;
    this.missed = 0;
    this.lagMs = NaN;
    this.arrivedAt = NaN;
    this.problem = null; // last error event
    this.order = null; // {number, at, afterMs, standingMs, arm}
    this.hasEnded = false;
    this.findings = [];
    this.hasHistory = false;
    // time [s], energies, then x y z roll pitch yaw closedness, then queue, encode, plan [ms], surprise
    this.course = new Ring(15, KEPT_PLANS);
    this.heatMost = 0; // of this goal: what the colours of the heat map are relative to
  }

  get title() { return this.info.options.task || `Session ${this.id.slice(0, 6)}`; }

  /** Whether the server still has what the robot saw last. */
  get hasLook() { return this.info.plans > 0; }

  /** Put recorded plans, oldest first, in the place of the live ones of the same time. */
  merge(rows) {
    if (!rows.length) return;
    const known = this.course.data().map((column) => [...column]);
    const [from, to] = [rows[0].at - SAME_S, rows.at(-1).at + SAME_S];
    const keep = (isWanted) => known[0].forEach((at, index) => { if (isWanted(at)) this.course.push(known.map((column) => column[index])); });
    this.course.clear();
    keep((at) => at < from);
    rows.forEach((row) => this.addPlan(row));
    keep((at) => at > to);
  }

  /** Take a plan, live or recorded. */
  addPlan(plan) {
    this.course.push([plan.at, plan.energy_now, plan.energy, plan.energy_do_nothing, ...plan.state,
      plan.queue_ms, plan.encode_ms, plan.plan_ms, plan.surprise]);
  }
}

/** All sessions, and everybody who wants to know when one changes. */
export class Store extends EventTarget {
  constructor() {
    super();
    this.sessions = new Map();
    this.model = null;
    this.me = null;
    this.connection = "offline";
    this.wanted = []; // ids that the view in sight shows
    this.isListKnown = false;
    this.listState = { name: "offline", detail: "" };
    this.streamState = { name: "idle", detail: "" };
    this.feed = new Feed({ event: (kind, data) => this.apply(kind, data), status: (name, detail) => this.onStream(name, detail) });
    document.addEventListener("visibilitychange", () => this.feed.setPaused(document.hidden));
  }

  tell(type, id) { this.dispatchEvent(new CustomEvent(type, { detail: id })); }

  /** Begin, or begin again with another token. */
  async start() {
    clearTimeout(this.timer);
    this.me = await getJson("/v1/whoami");
    this.model = await getJson("/v1/model");
    this.tell("account");
    await this.refresh();
    this.feed.restart();
    this.schedule();
  }

  stop() {
    clearTimeout(this.timer);
    this.me = null;
    this.isListKnown = false;
    this.sessions.clear();
    this.feed.ids = [];
    this.feed.restart();
    this.tell("account");
    this.tell("list");
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      try {
        await this.refresh();
      } catch (error) {
        this.onList(error);
        if (error.status === 401) return;
      }
      this.schedule();
    }, LIST_EVERY_MS);
  }

  /** Look at the list of sessions. */
  async refresh() {
    const { sessions } = await getJson("/v1/sessions");
    const found = new Set(sessions.map((info) => info.id));
    let hasChanged = !this.isListKnown;
    for (const info of sessions) {
      const known = this.sessions.get(info.id);
      if (known) known.info = info;
      else { this.sessions.set(info.id, new SessionState(info)); hasChanged = true; }
    }
    for (const id of [...this.sessions.keys()]) {
      if (!found.has(id)) { this.sessions.get(id).hasEnded = true; this.sessions.delete(id); hasChanged = true; }
    }
    this.isListKnown = true;
    this.onList(null);
    if (hasChanged) { this.follow(this.wanted); this.tell("list"); }
    for (const info of sessions) this.tell("session", info.id);
  }

  /** Follow the sessions that the view shows; null: all of them. */
  follow(ids) {
    this.wanted = ids;
    const chosen = (ids ?? [...this.sessions.keys()]).filter((id) => this.sessions.has(id)).slice(0, MOST_FOLLOWED);
    this.feed.follow(chosen);
    for (const id of chosen) this.backfill(this.sessions.get(id));
  }

  /** Fetch what was recorded before the page was opened, once. */
  async backfill(session) {
    if (session.hasHistory) return;
    session.hasHistory = true;
    try {
      const { plans } = await getJson(`/v1/sessions/${session.id}/plans?limit=300`);
      const rows = plans.reverse().map(({ at, seq, record }) => ({ ...record, seq, at: Date.parse(at) / 1000 }));
      session.merge(rows);
      if (!session.plan && rows.length) session.plan = rows.at(-1);
      if (!session.frame && session.hasLook) {
        session.frame = await createImageBitmap(await getBlob(`/v1/sessions/${session.id}/frame?format=jpeg`));
        this.tell("frame", session.id);
      }
      this.tell("session", session.id);
    } catch { session.hasHistory = false; }
  }

  /** Note how asking for the list went; an error, or null. */
  onList(error) {
    this.listState = error === null ? { name: "live", detail: "" } : { name: error.status === 401 ? "refused" : "retrying", detail: error.message };
    this.tellConnection();
  }

  /** Note how the stream is; after a gap what was missed is fetched. */
  onStream(name, detail = "") {
    if (name === "live" && this.wasInterrupted) {
      this.wasInterrupted = false;
      for (const session of this.sessions.values()) session.hasHistory = false;
      this.follow(this.wanted);
    }
    if (name === "retrying") this.wasInterrupted = true;
    this.streamState = { name, detail };
    this.tellConnection();
  }

  /** The page is as well connected as the worse of the two. */
  tellConnection() {
    const worse = this.listState.name === "live" && this.streamState.name !== "idle" ? this.streamState : this.listState;
    this.connection = worse.name;
    this.connectionDetail = worse.detail;
    this.tell("connection");
  }

  /** Take an event of the stream. */
  apply(kind, data) {
    const session = this.sessions.get(data.session);
    if (!session) return;
    if (kind === "session") { const { session: _, ...info } = data; session.info = info; }
    else if (kind === "plan") this.applyPlan(session, data);
    else if (kind === "error") session.problem = HOLDING.includes(data.code) ? null : data;
    else if (kind === "missed") session.missed += data.events;
    else if (kind === "state") {
      session.info = { ...session.info, state: data.state, order: data.order, is_order_obeyed: false, arm: null };
      session.order = { number: data.order, at: performance.now(), reason: data.reason };
    } else if (kind === "acknowledged") this.applyObedience(session, data);
    else if (kind === "goals") this.refresh().catch(() => {});
    else if (kind === "end") { session.hasEnded = true; this.refresh().catch(() => {}); }
    this.tell("session", session.id);
  }

  applyPlan(session, plan) {
    session.arrivedAt = Date.now();
    session.lagMs = session.arrivedAt - 1000 * plan.at;
    session.addPlan(plan);
    if (plan.goal_index !== session.plan?.goal_index) session.heatMost = 0;
    if (plan.heat) session.heatMost = Math.max(session.heatMost, ...plan.heat.flat());
    session.plan = plan;
    session.problem = null;
    session.plans += 1;
    if (plan.warnings.some((text) => text.startsWith("late:"))) session.lateCount += 1;
    session.info = { ...session.info, goal_index: plan.goal_index };
    session.findings = judge(session, this.model);
    if (plan.frame_jpeg) decode(plan.frame_jpeg).then((bitmap) => {
      session.frame?.close();
      session.frame = bitmap;
      session.frameSeq = plan.seq;
      this.tell("frame", session.id);
    });
  }

  applyObedience(session, data) {
    const waited = session.order?.number === data.order ? performance.now() - session.order.at : null;
    session.order = {
      ...(session.order ?? {}), number: data.order, arm: data.arm,
      afterMs: data.after_ms ?? waited, standingMs: data.standing_ms ?? null,
    };
    if (data.order >= session.info.order) session.info = { ...session.info, arm: data.arm, is_order_obeyed: OBEYED.includes(data.arm) };
  }
}

async function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
}
