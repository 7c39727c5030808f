// Who is at the page: the token is asked for once, kept for this tab, and sent as a header.

import { setToken, token, whenUnauthorised } from "./api.js";
import { h, openDialog, setText } from "./dom.js";

const MAY = { observe: "may watch", plan: "may watch, plan and set goals", operate: "may also pause and stop robots" };

/** The button in the header and the dialog behind it; `onToken` begins again with another token. */
export class Account {
  constructor(store, onToken) {
    this.store = store;
    this.onToken = onToken;
    this.button = h("button", { class: "account", test: "account", onclick: () => this.open() }, "Sign in");
    this.input = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", test: "token-input", required: true, "aria-describedby": "token-help token-error" });
    this.error = h("p", { id: "token-error", class: "error", role: "alert", test: "token-error" });
    this.who = h("p", { class: "muted" });
    this.forget = h("button", { type: "button", class: "quiet", test: "token-forget", onclick: () => this.leave() }, "Forget token");
    this.dialog = h("dialog", { test: "token-dialog", "aria-labelledby": "token-title" },
      h("form", { method: "dialog", onsubmit: (event) => this.submit(event) },
        h("h2", { id: "token-title" }, "Access token"), this.who,
        h("label", { for: "token" }, "Token"), this.input, this.error,
        h("p", { id: "token-help", class: "muted small" }, "The server's PLANNER_TOKEN, or one of its tokens file. It stays in this tab and is forgotten when the tab is closed."),
        h("div", { class: "row end" }, this.forget,
          h("button", { type: "button", class: "quiet", onclick: () => this.dialog.close() }, "Cancel"),
          h("button", { type: "submit", class: "primary", test: "token-submit" }, "Use token"))));
    document.body.append(this.dialog);
    store.addEventListener("account", () => this.show());
    whenUnauthorised((message) => this.refuse(message));
  }

  get role() { return this.store.me?.role ?? null; }

  show() {
    const { me } = this.store;
    setText(this.button, me ? (me.is_open ? "Open to this machine" : `${me.name} · ${me.role}`) : "Sign in");
    setText(this.who, me ? (me.is_open ? "This server has no tokens: everybody on this machine may do everything." : `Signed in as ${me.name}: ${MAY[me.role]}.`) : "This server lets nobody in without a token.");
    this.forget.hidden = !token();
  }

  open() {
    this.show();
    this.input.value = "";
    openDialog(this.dialog, this.input);
  }

  refuse(message) {
    const wasGiven = Boolean(token());
    setToken("");
    this.store.stop();
    if (!this.dialog.open) this.open();
    setText(this.error, wasGiven ? `This token is not known here. ${message}` : "");
  }

  async submit(event) {
    event.preventDefault();
    setText(this.error, "");
    setToken(this.input.value.trim());
    try {
      await this.onToken();
      this.dialog.close();
    } catch (error) {
      if (error.status !== 401) setText(this.error, error.message);
    }
  }

  leave() {
    setToken("");
    this.dialog.close();
    this.store.stop();
    this.onToken().catch(() => {});
  }
}
