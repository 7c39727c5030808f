// What happened before: sessions plan by plan, recorded episodes, and who ordered what.

import { getBlob, getJson, send } from "../api.js";
import { css, dateAndTime, duration, h, milliseconds, number, panel, saveBlob, setText } from "../dom.js";
import { sparkline } from "../plots.js";

const ORDERS = { order_paused: "hold", order_running: "resume", order_stopped: "stop" };

/** The views `#/history`, `#/history/ID` and `#/episodes/NAME`. */
export class HistoryView {
  constructor({ store, notice }) {
    this.store = store;
    this.notice = notice;
    this.body = h("div", { class: "column" });
    this.element = h("section", { class: "view history", test: "view-history" }, this.body);
  }

  async show(id, kind) {
    this.store.follow([]);
    this.key = `${kind}/${id}`;
    this.body.replaceChildren(h("p", { class: "muted", role: "status" }, "Looking it up …"));
    try {
      if (kind === "episodes") await this.showEpisode(id);
      else if (id) await this.showSession(id);
      else await this.showLists();
    } catch (error) { this.body.replaceChildren(h("p", { class: "empty big" }, error.message)); }
  }

  hide() { this.key = null; this.scrubber?.close(); this.scrubber = null; }

  fill(key, ...children) { if (this.key === key) this.body.replaceChildren(...children); }

  // Lists ------------------------------------------------------------------------------------------

  async showLists() {
    const { key } = this;
    const [past, recorded, audit] = await Promise.all([getJson("/v1/history/sessions?limit=50"), getJson("/v1/episodes?limit=100"), getJson("/v1/audit?limit=100")]);
    this.fill(key, h("div", { class: "view-head" }, h("h1", {}, "History")),
      panel("Sessions", {}, this.sessionTable(past)),
      panel("Recorded episodes", {}, this.episodeTable(recorded)),
      panel("Who did what", {}, auditTable(audit.events, "audit")));
  }

  sessionTable(past) {
    if (!past.sessions.length) return h("p", { class: "empty" }, "No session has been planned for yet.");
    const rows = h("tbody", {}, ...past.sessions.map(sessionRow));
    const more = h("button", { class: "small", hidden: past.next === null, onclick: async () => {
      const page = await getJson(`/v1/history/sessions?limit=50&before=${past.next}`);
      rows.append(...page.sessions.map(sessionRow));
      past = page;
      more.hidden = page.next === null;
    } }, "Earlier sessions");
    return h("div", { class: "scroll" }, h("table", {}, heads("Session", "Begun", "Lasted", "Plans", "Energy", "State"), rows), more);
  }

  episodeTable({ folder, episodes, replays }) {
    if (folder === null) return h("p", { class: "empty" }, "This server is not told where recordings lie. Start it with PLANNER_EPISODES=runs to see them here.");
    if (!episodes.length && !replays.length) return h("p", { class: "empty" }, "Nothing has been recorded yet; robot-client run leaves a recording of every run.");
    return h("div", { class: "scroll" }, h("table", {}, heads("Episode", "Recorded", "Frames", "Verdict", ""),
      h("tbody", {}, ...episodes.map((episode) => h("tr", { test: "episode", "data-episode": episode.name },
        h("td", {}, h("a", { href: `#/episodes/${encodeURIComponent(episode.name)}` }, episode.task || episode.name), h("div", { class: "muted small" }, episode.headline || episode.name)),
        h("td", {}, dateAndTime(episode.recorded_at)), h("td", { class: "number" }, episode.frames ?? "–"), h("td", {}, verdict(episode.verdict)),
        h("td", {}, this.links(episode)))),
        ...replays.map((replay) => h("tr", { test: "replay" }, h("td", { colspan: "1" }, replay.name), h("td", {}, dateAndTime(replay.made_at)), h("td", {}, ""), h("td", {}, "replay"),
          h("td", {}, this.reportButton(replay.name)))))));
  }

  links(episode) {
    return h("div", { class: "row end" }, episode.has_report ? this.reportButton(episode.name) : null,
      h("button", { class: "small", test: "history-download", onclick: () => this.download(episode) }, `Download ${megabytes(episode.bytes)}`));
  }

  reportButton(name) {
    return h("button", { class: "small", test: "history-report", onclick: () => this.openReport(name) }, "Report");
  }

  /** A report opens in a tab of its own, by a link that holds for a minute and once: no token is in any address. */
  async openReport(name) {
    try {
      const { url } = await send(`/v1/episodes/${path(name)}/report-link`, {});
      window.open(url, "_blank", "noopener");
    } catch (error) { this.notice(error.message); }
  }

  async download(episode) {
    try { saveBlob(await getBlob(`/v1/episodes/${path(episode.name)}/download`), `${episode.name.replaceAll("/", "_")}.zip`); }
    catch (error) { this.notice(error.message); }
  }

  // One session, one episode -----------------------------------------------------------------------

  async showSession(id) {
    const { key } = this;
    const [{ plans }, { events }, { episodes }] = await Promise.all([
      getJson(`/v1/history/sessions/${id}?limit=1000`), getJson(`/v1/sessions/${id}/events?limit=200`), getJson("/v1/episodes?limit=200")]);
    const episode = episodes.find((each) => each.session_id === id);
    const moments = plans.map((plan) => ({
      seq: plan.seq, at: plan.at, energyNow: plan.energy_now, state: plan.state, picture: async () => (plan.has_frame === false ? null : getBlob(`/v1/history/frames/${plan.frame_sha256}`)),
      notes: [plan.goal_name || `goal ${plan.goal_index + 1}`, `energy ${number(plan.energy_now)} → ${number(plan.energy)}, holding still ${number(plan.energy_do_nothing)}`,
        `queue ${milliseconds(plan.queue_ms)}, encode ${milliseconds(plan.encode_ms)}, search ${milliseconds(plan.plan_ms)}`, ...plan.warnings],
    }));
    this.fill(key, back(this.store.sessions.get(id)?.title ?? `Session ${id.slice(0, 6)}`, episode ? this.links(episode) : null, id),
      this.scrub(moments, "This session has no plans."), panel("What happened", {}, auditTable(events, "history-events")));
  }

  async showEpisode(name) {
    const { key } = this;
    const episode = await getJson(`/v1/episodes/${path(name)}`);
    const moments = episode.t_s.map((seconds, index) => ({
      seq: index, at: null, seconds, energyNow: episode.energies?.[index] ?? NaN, state: episode.states[index],
      picture: () => getBlob(`/v1/episodes/${path(name)}/frames/${index}`),
      notes: [`${seconds.toFixed(2)} s`, episode.goal_indices ? `goal ${episode.goal_indices[index] + 1}` : ""].filter(Boolean),
    }));
    this.fill(key, back(episode.task || name, this.links(episode), `${name} · ${episode.headline}`), this.scrub(moments, "This recording is empty."));
  }

  scrub(moments, emptyText) {
    if (!moments.length) return h("p", { class: "empty" }, emptyText);
    this.scrubber?.close();
    this.scrubber = new Scrubber(moments);
    return this.scrubber.element;
  }
}

/** A slider over moments, with the picture and the numbers of the one it stands on. */
class Scrubber {
  constructor(moments) {
    this.moments = moments;
    this.range = h("input", { id: "history-scrub", type: "range", min: "0", max: String(moments.length - 1), value: "0", test: "history-scrub", "aria-label": "Moment", oninput: () => this.go() });
    this.play = h("button", { class: "small", onclick: () => this.toggle() }, "Play");
    this.seq = h("output", { test: "history-seq" });
    this.energy = h("output", { class: "figure", test: "history-energy" });
    this.image = h("img", { class: "history-frame", test: "history-frame", alt: "What the robot saw then" });
    this.missing = h("p", { class: "empty", hidden: true }, "No picture of this moment was kept.");
    this.line = h("canvas", { class: "history-line", role: "img", "aria-label": "Energy over the session" });
    this.mark = h("span", { class: "history-mark", "aria-hidden": "true" });
    this.notes = h("ul", { class: "notes muted small" });
    this.state = h("p", { class: "mono small" });
    this.element = panel("Course", {},
      h("div", { class: "scrub-grid" }, h("div", { class: "history-picture" }, this.image, this.missing),
        h("div", { class: "column" }, h("div", {}, h("span", { class: "label" }, "energy"), this.energy), this.notes, this.state,
          h("div", { class: "history-plot" }, this.line, this.mark),
          h("div", { class: "row" }, this.play, this.range, this.seq))));
    this.observer = new ResizeObserver(() => sparkline(this.line, moments.map((moment) => moment.energyNow), css("--ink")));
    this.observer.observe(this.line);
    this.go();
  }

  close() { clearInterval(this.timer); this.observer.disconnect(); if (this.url) URL.revokeObjectURL(this.url); }

  toggle() {
    const isPlaying = Boolean(this.timer);
    clearInterval(this.timer);
    this.timer = isPlaying ? null : setInterval(() => {
      const next = Number(this.range.value) + 1;
      if (next >= this.moments.length) { this.toggle(); return; }
      this.range.value = String(next);
      this.go();
    }, 250);
    setText(this.play, isPlaying ? "Play" : "Pause");
  }

  async go() {
    const index = Number(this.range.value);
    const moment = this.moments[index];
    setText(this.seq, `${moment.seq} of ${this.moments.at(-1).seq}`);
    setText(this.energy, number(moment.energyNow));
    const when = moment.at ? [dateAndTime(moment.at)] : [];
    this.notes.replaceChildren(...[...when, ...moment.notes].map((note) => h("li", {}, note)));
    setText(this.state, moment.state.map((value) => number(value)).join("  "));
    this.mark.style.insetInlineStart = `${100 * index / Math.max(1, this.moments.length - 1)}%`;
    const blob = await moment.picture().catch(() => null);
    if (index !== Number(this.range.value)) return;
    this.missing.hidden = Boolean(blob);
    this.image.hidden = !blob;
    if (!blob) return;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(blob);
    this.image.src = this.url;
  }
}

const sessionRow = (session) => {
  const seconds = (Date.parse(session.ended_at ?? session.used_at) - Date.parse(session.created_at)) / 1000;
  return h("tr", { test: "history-session", "data-session": session.id },
    h("td", {}, h("a", { href: `#/history/${session.id}` }, session.task || session.id.slice(0, 8)), h("div", { class: "muted small" }, session.planner ?? "")),
    h("td", {}, dateAndTime(session.created_at)), h("td", { class: "number" }, duration(seconds)), h("td", { class: "number" }, session.plans),
    h("td", { class: "number" }, session.energy_first === null ? "–" : `${number(session.energy_first, 2)} → ${number(session.energy_last, 2)}`),
    h("td", {}, session.is_open ? session.state : "ended"));
};

function auditTable(events, test) {
  if (!events.length) return h("p", { class: "empty" }, "Nothing was written down yet.");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Events" }, h("table", { test }, heads("When", "Who", "What", "Detail", "Obeyed"),
    h("tbody", {}, ...events.map((event) => h("tr", { "data-kind": event.kind },
      h("td", {}, dateAndTime(event.at)), h("td", {}, event.actor), h("td", {}, ORDERS[event.kind] ?? event.kind.replaceAll("_", " ")),
      h("td", {}, event.session_id ? h("code", {}, event.session_id.slice(0, 6)) : null, ` ${event.detail}`),
      h("td", { class: "number" }, obedience(event)))))));
}

function obedience(event) {
  if (!(event.kind in ORDERS)) return "";
  if (!event.acknowledged_at) return "no answer";
  const after = (end) => milliseconds(Date.parse(end) - Date.parse(event.at));
  return after(event.acknowledged_at) + (event.standing_at ? `, at rest ${after(event.standing_at)}` : "");
}

const heads = (...names) => h("thead", {}, h("tr", {}, ...names.map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {})))));
const verdict = (value) => (value === null || value === undefined ? "–" : value ? "reached" : "not reached");
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
const path = (name) => name.split("/").map(encodeURIComponent).join("/");
const back = (title, links, note) => h("div", { class: "view-head" }, h("div", {}, h("h1", {}, title), h("p", { class: "muted small" }, h("a", { href: "#/history" }, "History"), ` · ${note}`)), links);
