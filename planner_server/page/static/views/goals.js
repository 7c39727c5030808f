// What a session shall reach: pictures in order, what counts in each, and when the next one's turn comes.

import { getBlob, request } from "../api.js";
import { dateAndTime, h, panel, setEnabled, setText } from "../dom.js";
import { deleteSet, listSets, saveSet } from "../goal_store.js";
import { MaskEditor, maskBlob, maskOf } from "../mask_editor.js";

const MOST_GOALS = 16;

/** The view `#/goals/ID`. */
export class GoalsView {
  constructor({ store, notice }) {
    this.store = store;
    this.notice = notice;
    this.goals = [];
    this.selected = 0;
    this.mask = new MaskEditor(() => this.renderMask());
    this.build();
  }

  build() {
    this.file = h("input", { id: "goal-file", type: "file", accept: "image/png,image/jpeg,image/webp", multiple: true, class: "visually-hidden", test: "goal-file", onchange: (event) => this.addFiles(event.target.files) });
    this.drop = h("div", { class: "drop", test: "goal-drop",
      ondragover: (event) => { event.preventDefault(); this.drop.classList.add("is-over"); },
      ondragleave: () => this.drop.classList.remove("is-over"),
      ondrop: (event) => { event.preventDefault(); this.drop.classList.remove("is-over"); this.addFiles(event.dataTransfer.files); } },
      h("strong", {}, "Drop goal images here"), h("p", { class: "muted small" }, "PNG, JPEG or WebP, taken with the robot's own camera, in the order of the task"),
      h("div", { class: "row centre" }, h("label", { class: "button", for: "goal-file" }, "Choose files"), this.file,
        this.snapshot = h("button", { test: "goal-snapshot", onclick: () => this.takeSnapshot() }, "Take the robot's present frame")));
    this.list = h("ol", { class: "goal-drafts" });
    this.send = h("button", { class: "primary", test: "goals-send", onclick: () => this.submit() }, "Send to the robot");
    this.sent = h("p", { class: "muted", role: "status", test: "goals-sent" });
    const tool = (test, label, act) => h("button", { class: "small", test, onclick: act }, label);
    this.brush = tool("mask-brush", "Paint", () => this.erase(false));
    this.eraser = tool("mask-erase", "Erase", () => this.erase(true));
    this.maskText = h("p", { class: "muted small" });
    this.editor = panel("What counts", { aside: h("div", { class: "row" }, this.brush, this.eraser,
      tool("mask-invert", "Invert", () => this.mask.invert()), tool("mask-clear", "Everything", () => this.mask.fill(null))) },
      this.mask.box, this.maskText);
    this.saveName = h("input", { id: "save-name", test: "goals-save-name", maxlength: "60", placeholder: "for example: plate, left" });
    this.saved = h("ul", { class: "saved", test: "saved-goals" });
    this.title = h("h1", {}, "Goals");
    this.element = h("section", { class: "view goals", test: "view-goals" },
      h("div", { class: "view-head" }, h("div", {}, this.title, this.intro = h("p", { class: "muted small" })), h("div", { class: "row" }, this.sent, this.send)),
      h("div", { class: "goals-grid" },
        h("div", { class: "column" }, this.drop, this.list),
        h("div", { class: "column" }, this.editor,
          panel("Saved in this browser", {},
            h("form", { class: "row", onsubmit: (event) => this.save(event) }, h("label", { for: "save-name", class: "visually-hidden" }, "Name"), this.saveName, h("button", { test: "goals-save", type: "submit" }, "Save")),
            this.saved))));
    this.erase(false);
  }

  erase(isErasing) {
    this.mask.setErasing(isErasing);
    this.brush.setAttribute("aria-pressed", String(!isErasing));
    this.eraser.setAttribute("aria-pressed", String(isErasing));
  }

  async show(id) {
    this.store.follow([id]);
    this.listen = (event) => { if (event.detail === this.id) this.renderHead(); };
    this.store.addEventListener("session", this.listen);
    const isOther = this.id !== id;
    this.id = id;
    if (isOther) { this.goals = []; setText(this.sent, ""); }
    this.render();
    this.renderSaved();
    if (isOther) await this.load();
  }

  hide() { this.store.removeEventListener("session", this.listen); }

  get session() { return this.store.sessions.get(this.id); }

  /** Begin with the goals that the session has. */
  async load() {
    const id = this.id;
    try {
      for (const goal of this.session?.info.goals ?? []) {
        const blob = await getBlob(`/v1/sessions/${id}/goals/${goal.index}/image`);
        const draft = await this.draft(blob, { name: goal.name, maxSteps: goal.max_steps, threshold: goal.energy_threshold, region: goal.region });
        if (goal.has_mask) draft.mask = await maskOf(await getBlob(`/v1/sessions/${id}/goals/${goal.index}/mask`), draft.crop, this.store.model.geometry);
        draft.more = goal.images - 1;
        if (this.id !== id) return;
        this.goals.push(draft);
      }
      this.render();
    } catch (error) { this.notice(error.message); }
  }

  async draft(blob, { name = "", maxSteps = null, threshold = null, region = null, mask = null } = {}) {
    const response = await request("/v1/crop", { method: "POST", body: blob, headers: { "Content-Type": blob.type || "image/png" } });
    const numbers = (header) => response.headers.get(header).split(",").map(Number);
    const crop = numbers("X-Crop");
    const size = numbers("X-Size");
    return { blob, name, maxSteps, threshold, region, mask, crop, size, more: 0, cropUrl: URL.createObjectURL(await response.blob()) };
  }

  async addFiles(files) {
    for (const file of files) {
      if (this.goals.length >= MOST_GOALS) { this.notice(`A session has at most ${MOST_GOALS} goals.`); break; }
      try { this.goals.push(await this.draft(file, { name: file.name.replace(/\.\w+$/, "").slice(0, 100) })); }
      catch (error) { this.notice(`${file.name}: ${error.message}`); }
    }
    this.file.value = "";
    this.selected = this.goals.length - 1;
    this.changed();
  }

  async takeSnapshot() {
    try {
      this.goals.push(await this.draft(await getBlob(`/v1/sessions/${this.id}/frame?format=png`), { name: "snapshot" }));
      this.selected = this.goals.length - 1;
      this.changed();
    } catch (error) { this.notice(error.message); }
  }

  changed() { setText(this.sent, "Not sent yet."); this.render(); }

  async submit() {
    const form = new FormData();
    const rules = [];
    let count = 0;
    const attach = (blob) => { form.append("images", blob, `${count}`); count += 1; return count - 1; };
    for (const goal of this.goals) {
      const entry = { name: goal.name, images: [attach(goal.blob)] };
      if (goal.maxSteps) entry.max_steps = goal.maxSteps;
      if (goal.threshold !== null) entry.energy_threshold = goal.threshold;
      const mask = await maskBlob(goal);
      if (mask) entry.mask = attach(mask);
      else if (goal.region) entry.region = goal.region;
      rules.push(entry);
    }
    form.append("goals", JSON.stringify(rules));
    try {
      await request(`/v1/sessions/${this.id}/goals`, { method: "PUT", body: form });
      await this.store.refresh();
      setText(this.sent, `${rules.length} goal${rules.length > 1 ? "s" : ""} sent.`);
    } catch (error) { setText(this.sent, ""); this.notice(error.message); }
  }

  render() {
    this.renderHead();
    this.selected = Math.max(0, Math.min(this.selected, this.goals.length - 1));
    this.list.replaceChildren(...this.goals.map((goal, index) => this.item(goal, index)));
    this.editor.hidden = !this.goals.length;
    this.mask.show(this.goals[this.selected] ?? null, this.store.model?.geometry);
    this.renderMask();
  }

  renderHead() {
    const session = this.session;
    setText(this.title, session ? `Goals of ${session.title}` : "Goals");
    setText(this.intro, session ? `${session.id} · ${session.info.goals.length || "no"} goal${session.info.goals.length === 1 ? "" : "s"} in force` : "");
    const { me } = this.store;
    const may = me?.role === "operate" || (me?.role === "plan" && session?.info.owner === me.name);
    setEnabled(this.send, may && this.goals.length > 0 && Boolean(session), may ? "Add a goal image first." : "It takes the token that made the session, or one with the role operate.");
    setEnabled(this.snapshot, Boolean(session?.plan || session?.info.plans), "The robot has not looked yet.");
  }

  renderMask() {
    const goal = this.goals[this.selected];
    if (!goal) return;
    const patches = goal.mask?.flat().filter(Boolean).length;
    const { rows, columns } = this.store.model.geometry;
    setText(this.maskText, goal.mask ? `${patches} of ${rows * columns} patches count.` : goal.region ? "The region sent before counts; painting replaces it." : "The whole picture counts. Paint to choose a part of it.");
  }

  item(goal, index) {
    const set = (name, parse) => (event) => { goal[name] = parse(event.target.value); setText(this.sent, "Not sent yet."); };
    const whole = (text) => (text === "" ? null : Math.max(1, Math.round(Number(text))));
    const real = (text) => (text === "" ? null : Math.max(0, Number(text)));
    const id = (name) => `goal-${index}-${name}`;
    const button = (test, label, title, act, isOff) => h("button", { class: "quiet small", test, title, "aria-label": title, disabled: isOff, onclick: act }, label);
    return h("li", { class: index === this.selected ? "goal-draft is-selected" : "goal-draft", test: "goal-item", "data-goal": index },
      h("button", { class: "thumb", test: "goal-edit", "aria-label": `Choose what counts in goal ${index + 1}`, "aria-pressed": String(index === this.selected), onclick: () => { this.selected = index; this.render(); } },
        h("img", { src: goal.cropUrl, alt: "" })),
      h("div", { class: "fields" },
        h("div", {}, h("label", { for: id("name") }, "Name"), h("input", { id: id("name"), value: goal.name, maxlength: "100", test: "goal-name", onchange: set("name", String) })),
        h("div", {}, h("label", { for: id("steps") }, "Steps at most"), h("input", { id: id("steps"), type: "number", min: "1", max: "100000", value: goal.maxSteps ?? "", placeholder: "no limit", test: "goal-steps", onchange: set("maxSteps", whole) })),
        h("div", {}, h("label", { for: id("threshold") }, "Done at energy"), h("input", { id: id("threshold"), type: "number", min: "0", step: "0.01", value: goal.threshold ?? "", placeholder: "never", test: "goal-threshold", onchange: set("threshold", real) }))),
      h("div", { class: "column tight" },
        button("goal-up", "↑", `Move goal ${index + 1} up`, () => this.move(index, -1), index === 0),
        button("goal-down", "↓", `Move goal ${index + 1} down`, () => this.move(index, 1), index === this.goals.length - 1),
        button("goal-remove", "×", `Remove goal ${index + 1}`, () => { this.goals.splice(index, 1); this.changed(); }, false)),
      goal.more > 0 ? h("p", { class: "muted small" }, `Its ${goal.more} further image(s) are not sent again.`) : null);
  }

  move(index, step) {
    const [goal] = this.goals.splice(index, 1);
    this.goals.splice(index + step, 0, goal);
    this.selected = index + step;
    this.changed();
  }

  async save(event) {
    event.preventDefault();
    const name = this.saveName.value.trim();
    if (!name || !this.goals.length) { this.notice("Add goals and give them a name to save them by."); return; }
    await saveSet(name, this.goals.map(({ blob, name: title, maxSteps, threshold, region, mask }) => ({ blob, name: title, maxSteps, threshold, region, mask })));
    this.saveName.value = "";
    this.renderSaved();
  }

  async renderSaved() {
    const sets = await listSets();
    this.saved.replaceChildren(...sets.map((set) => h("li", { test: "saved-goal", "data-name": set.name },
      h("span", {}, h("strong", {}, set.name), h("span", { class: "muted small" }, `${set.goals.length} goal${set.goals.length > 1 ? "s" : ""} · ${dateAndTime(set.savedAt)}`)),
      h("span", { class: "row" },
        h("button", { class: "small", test: "saved-goal-use", onclick: () => this.use(set) }, "Use"),
        h("button", { class: "quiet small", test: "saved-goal-delete", "aria-label": `Delete ${set.name}`, onclick: async () => { await deleteSet(set.name); this.renderSaved(); } }, "×")))));
    if (!sets.length) this.saved.replaceChildren(h("li", { class: "muted small" }, "Nothing yet. Saved goals can be used again for any session, on this machine."));
  }

  async use(set) {
    try {
      this.goals = await Promise.all(set.goals.map((goal) => this.draft(goal.blob, goal)));
      this.selected = 0;
      this.changed();
    } catch (error) { this.notice(error.message); }
  }
}
