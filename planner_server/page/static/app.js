// The page: header, routes, keys, and the views.

import { Account } from "./account.js";
import { h, setText } from "./dom.js";
import { Store } from "./state.js";
import { StopAll } from "./stop.js";
import { GoalsView } from "./views/goals.js";
import { HistoryView } from "./views/history.js";
import { ImagineView } from "./views/imagine.js";
import { LandscapeView } from "./views/landscape.js";
import { OverviewView } from "./views/overview.js";
import { SessionView } from "./views/session.js";

const VIEWS = { overview: OverviewView, session: SessionView, goals: GoalsView, imagine: ImagineView, landscape: LandscapeView, history: HistoryView };
const TABS = [["overview", "Robots"], ["session", "Live"], ["goals", "Goals"], ["imagine", "Imagine"], ["landscape", "Landscape"], ["history", "History"]];
const OF_A_SESSION = ["session", "goals", "imagine", "landscape"];
const CONNECTION = { offline: "Not connected", connecting: "Connecting", live: "Live", retrying: "No connection", refused: "Not signed in" };
const NOTICE_MS = 12_000;

class Page {
  constructor() {
    this.store = new Store();
    this.views = {};
    this.account = new Account(this.store, () => this.begin());
    this.stop = new StopAll(this.store);
    this.connection = h("span", { class: "connection", test: "connection", "data-state": "offline" }, CONNECTION.offline);
    this.picker = h("select", { test: "session-picker", "aria-label": "Session", onchange: () => this.pick() });
    this.tabs = TABS.map(([name, label]) => h("a", { href: "#/", test: `nav-${name}`, "data-view": name }, label));
    this.noticeText = h("span");
    this.noticeBox = h("div", { class: "notice", role: "alert", test: "notice", hidden: true }, this.noticeText,
      h("button", { class: "quiet small", "aria-label": "Dismiss", onclick: () => { this.noticeBox.hidden = true; } }, "×"));
    document.querySelector("header").append(
      h("a", { class: "brand", href: "#/", "aria-label": "Planner: all robots" }, h("img", { src: "/page/icon.svg", alt: "", width: 22, height: 22 }), h("span", {}, "Planner")),
      h("nav", { "aria-label": "Views" }, ...this.tabs), this.picker,
      h("div", { class: "row head-end" }, this.connection, this.account.button, this.stop.button));
    document.querySelector("#messages").append(this.stop.status, this.noticeBox);
    this.main = document.querySelector("main");
    this.store.addEventListener("list", () => this.onList());
    this.store.addEventListener("account", () => this.onList());
    this.store.addEventListener("connection", () => this.onConnection());
    window.addEventListener("hashchange", () => this.route());
    window.addEventListener("keydown", (event) => this.onKey(event));
  }

  notice(text) {
    setText(this.noticeText, text);
    this.noticeBox.hidden = false;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => { this.noticeBox.hidden = true; }, NOTICE_MS);
  }

  /** Learn who asks and what there is; again when the server comes back. */
  async begin() {
    clearTimeout(this.beginTimer);
    try {
      await this.store.start();
      this.route();
    } catch (error) {
      this.store.onList(error);
      this.renderOutside(error);
      if (error.status !== 401) this.beginTimer = setTimeout(() => this.begin().catch(() => {}), 2000);
      throw error;
    }
  }

  /** What is there to see for somebody whom the server does not know, or who cannot reach it. */
  renderOutside(error) {
    this.view?.hide();
    this.view = null;
    const isRefused = error.status === 401;
    this.main.replaceChildren(h("section", { class: "view empty big", test: "view-outside" },
      h("h1", {}, isRefused ? "Sign in to see the robots" : "The planner does not answer"),
      h("p", {}, isRefused ? "This server asks for a token: its PLANNER_TOKEN, or one of its tokens file." : "This page tries again by itself. Is the server running?"),
      isRefused ? h("button", { class: "primary", onclick: () => this.account.open() }, "Enter a token") : null));
  }

  onConnection() {
    const { connection, connectionDetail } = this.store;
    setText(this.connection, CONNECTION[connection]);
    this.connection.dataset.state = connection;
    this.connection.title = connectionDetail ?? "";
  }

  onList() {
    const ids = [...this.store.sessions.keys()];
    const options = [...this.store.sessions.values()].map((session) => h("option", { value: session.id, selected: session.id === this.id }, session.title));
    this.picker.replaceChildren(...options);
    this.picker.hidden = ids.length === 0;
    if (!this.id || !this.store.sessions.has(this.id)) this.lastId = ids.at(-1) ?? null;
    this.renderTabs();
    this.renderGone();
  }

  pick() { location.hash = `#/${OF_A_SESSION.includes(this.name) ? this.name : "session"}/${this.picker.value}`; }

  renderTabs() {
    const id = this.id ?? this.lastId;
    for (const tab of this.tabs) {
      const { view } = tab.dataset;
      const needsSession = OF_A_SESSION.includes(view);
      tab.href = view === "overview" ? "#/" : needsSession && id ? `#/${view}/${id}` : `#/${needsSession ? "" : view}`;
      tab.toggleAttribute("data-off", needsSession && !id);
      if (view === this.name) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current");
    }
    if (id) this.picker.value = id;
  }

  /** A session that is over is shown no longer as if it lived. */
  renderGone() {
    const isGone = OF_A_SESSION.includes(this.name) && this.store.isListKnown && this.store.me && !this.store.sessions.has(this.id);
    if (this.gone) { this.gone.remove(); this.gone = null; }
    if (!isGone) { if (this.view) this.view.element.hidden = false; return; }
    this.view.element.hidden = true;
    this.gone = h("section", { class: "view empty big", test: "session-gone" }, h("h1", {}, "This session is over"),
      h("p", {}, "Its plans and events can still be looked up. ", h("a", { href: `#/history/${this.id}` }, "See its history"), " or ", h("a", { href: "#/" }, "go to the robots"), "."));
    this.main.append(this.gone);
  }

  route() {
    const [kind = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
    const id = decodeURIComponent(rest.join("/"));
    const name = kind === "episodes" ? "history" : kind in VIEWS ? kind : "overview";
    if (!this.store.me) return;
    this.view?.hide();
    this.gone = null;
    this.main.replaceChildren();
    this.name = name;
    this.id = OF_A_SESSION.includes(name) ? id : null;
    this.lastId = this.id ?? this.lastId;
    this.views[name] ??= new VIEWS[name]({ store: this.store, notice: (text) => this.notice(text) });
    this.view = this.views[name];
    document.body.dataset.view = name;
    document.title = `${TABS.find(([each]) => each === name)[1]} · Planner`;
    this.main.append(this.view.element);
    this.view.show(id, kind);
    this.renderTabs();
    this.renderGone();
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (event.target instanceof Element && event.target.closest("input, textarea, select")) return;
    const tab = this.tabs[Number(event.key) - 1];
    if (tab) { tab.click(); event.preventDefault(); }
  }
}

const page = new Page();
page.begin().catch(() => {});
