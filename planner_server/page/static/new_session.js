// Making a session before its robot comes: what it is for, and whose it shall be.

import { send } from "./api.js";
import { h, openDialog, setText } from "./dom.js";

/** A dialog that asks for little and makes a session; `done(info)` is told. */
export class NewSession {
  constructor(store, done) {
    this.store = store;
    this.done = done;
    this.task = h("input", { id: "new-task", maxlength: "200", test: "new-task", placeholder: "for example: block onto the plate" });
    this.planner = h("select", { id: "new-planner", test: "new-planner" });
    this.owner = h("input", { id: "new-owner", maxlength: "64", test: "new-owner", placeholder: "yours" });
    this.ownerRow = h("div", {}, h("label", { for: "new-owner" }, "Name of the robot's token"), this.owner);
    this.error = h("p", { class: "error", role: "alert" });
    this.dialog = h("dialog", { test: "new-dialog", "aria-labelledby": "new-title" },
      h("form", { method: "dialog", onsubmit: (event) => this.submit(event) },
        h("h2", { id: "new-title" }, "New session"),
        h("div", {}, h("label", { for: "new-task" }, "Task"), this.task),
        h("div", {}, h("label", { for: "new-planner" }, "Planner"), this.planner), this.ownerRow, this.error,
        h("div", { class: "row end" }, h("button", { type: "button", class: "quiet", onclick: () => this.dialog.close() }, "Cancel"),
          h("button", { type: "submit", class: "primary", test: "new-submit" }, "Make it"))));
    document.body.append(this.dialog);
  }

  open() {
    const { model, me } = this.store;
    this.planner.replaceChildren(...model.planners.map((name) => h("option", { value: name, selected: name === model.default_planner }, name)));
    this.ownerRow.hidden = me.is_open || me.role !== "operate";
    setText(this.error, "");
    openDialog(this.dialog, this.task);
  }

  async submit(event) {
    event.preventDefault();
    const owner = this.owner.value.trim();
    try {
      const info = await send(`/v1/sessions${owner ? `?owner=${encodeURIComponent(owner)}` : ""}`, { task: this.task.value.trim(), planner: this.planner.value });
      this.dialog.close();
      this.task.value = "";
      this.done(info);
    } catch (error) { setText(this.error, error.message); }
  }
}
