// A session's sub-goals in order: picture, budget, threshold, and how far the one under way has come.

import { getBlob } from "./api.js";
import { h, number, setText } from "./dom.js";

/** A list that follows a session. */
export class GoalStrip {
  constructor() {
    this.element = h("ol", { class: "goal-strip", test: "goals-list" });
    this.link = h("a", { class: "small" }, "Set goals");
    this.reset();
  }

  reset() { this.key = null; this.items = []; }

  update(session) {
    const { goals, goal_index: current } = session.info;
    this.link.href = `#/goals/${session.id}`;
    const key = goals.map((goal) => goal.sha256 + goal.name + goal.max_steps + goal.energy_threshold).join() + session.id;
    if (key !== this.key) { this.key = key; this.build(session, goals); }
    this.items.forEach((item, index) => {
      item.element.dataset.current = String(index === current);
      if (index === current) item.element.setAttribute("aria-current", "step"); else item.element.removeAttribute("aria-current");
      const goal = goals[index];
      const steps = index === current ? session.info.goal_steps : index < current ? goal.max_steps : 0;
      item.bar.style.inlineSize = goal.max_steps ? `${100 * Math.min(1, (steps ?? 0) / goal.max_steps)}%` : index < current ? "100%" : "0";
      setText(item.text, describe(goal, index, current, session));
    });
  }

  build(session, goals) {
    if (!goals.length) {
      this.items = [];
      this.element.replaceChildren(h("li", { class: "empty" }, "No goal yet: the robot holds until it has one. ", h("a", { href: `#/goals/${session.id}` }, "Set goals")));
      return;
    }
    this.items = goals.map((goal, index) => {
      const image = h("img", { alt: `Goal ${index + 1}`, width: 72, height: 72 });
      const text = h("span", { class: "muted small" });
      const bar = h("span", { class: "bar-fill" });
      const element = h("li", { "data-goal": index }, image,
        h("div", {}, h("strong", {}, goal.name || `Goal ${index + 1}`), text, h("span", { class: "bar", "aria-hidden": "true" }, bar)));
      getBlob(`/v1/sessions/${session.id}/goals/${index}/image`).then((blob) => {
        const url = URL.createObjectURL(blob);
        image.onload = () => URL.revokeObjectURL(url);
        image.src = url;
      }).catch(() => {});
      return { element, text, bar };
    });
    this.element.replaceChildren(...this.items.map((item) => item.element));
  }
}

function describe(goal, index, current, session) {
  if (index < current) return "done";
  const parts = [];
  if (index === current) parts.push(goal.max_steps ? `step ${session.info.goal_steps} of ${goal.max_steps}` : `step ${session.info.goal_steps}`);
  else parts.push(goal.max_steps ? `${goal.max_steps} steps` : "no limit of steps");
  if (goal.energy_threshold !== null) parts.push(`done at energy ${number(goal.energy_threshold, 2)}`);
  if (goal.has_mask || goal.region) parts.push("part of the image");
  return parts.join(" · ");
}
