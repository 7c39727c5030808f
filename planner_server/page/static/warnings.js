// What a person beside the robot should notice, in words, with a kind that a colour can be chosen by.

const EDGE = 0.995; // of the box of allowed steps: the search would have gone further
const SURPRISING = 2; // times the usual surprise
const LEAST_SURPRISE = 0.2; // of the largest energy seen
const ENOUGH = 8; // plans after which there is a usual one
const SHORT = 0.5; // share of a planned step below which the arm was held back
const LEAST_STEP_M = 0.01;
const STALE_PERIODS = 3;

/** Return [{kind, text}] about the newest plan of a session. */
export function judge(session) {
  const found = [];
  for (const text of session.plan.warnings) found.push(text.startsWith("late: ") ? { kind: "late", text: text.slice(6) } : { kind: "planner", text });
  const { course, plan, info } = session;
  const limit = info.action_limits.max_step_m;
  const planned = plan.actions[0].slice(0, 3);
  if (planned.some((value) => Math.abs(value) >= EDGE * limit)) {
    found.push({ kind: "clamped", text: `the step lies on the edge of what is allowed (${(100 * limit).toFixed(0)} cm per axis)` });
  }
  const before = session.before;
  if (before && before.goal === plan.goal_index) {
    const moved = plan.state.slice(0, 3).map((value, axis) => value - before.state[axis]);
    const along = dot(moved, before.step) / Math.max(dot(before.step, before.step), 1e-12);
    const length = Math.sqrt(dot(before.step, before.step));
    if (length > LEAST_STEP_M && along < SHORT) {
      found.push({ kind: "clamped", text: `the arm went ${Math.max(0, 100 * along * length).toFixed(1)} of ${(100 * length).toFixed(1)} cm: held back by a limit, or by something in its way` });
    }
  }
  session.before = { state: plan.state, step: planned, goal: plan.goal_index };
  const surprises = [...course.data()[14]].filter(Number.isFinite);
  if (plan.surprise !== null && surprises.length > ENOUGH) {
    const usual = surprises.sort((a, b) => a - b)[Math.floor(surprises.length / 2)];
    const largest = Math.max(...[...course.data()[1]].filter(Number.isFinite));
    if (plan.surprise > Math.max(SURPRISING * usual, LEAST_SURPRISE * largest)) {
      found.push({ kind: "surprise", text: `the frame is not what the model expected (${plan.surprise.toFixed(2)}, usually ${usual.toFixed(2)})` });
    }
  }
  return found;
}

/** Add what only the passing of time shows: no plan has come for too long, or the last one was refused. */
export function present(session) {
  const found = [...session.findings];
  const waited = (Date.now() - session.arrivedAt) / 1000;
  const patience = Math.max(STALE_PERIODS * session.info.control_period_s, 2);
  if (session.info.state === "running" && waited > patience) {
    found.unshift({ kind: "stale", text: `no plan for ${Math.round(waited)} s: the robot asks for none, or is gone` });
  }
  if (session.problem) found.unshift({ kind: "error", text: session.problem.message });
  if (session.missed) found.push({ kind: "missed", text: `this page was too slow for ${session.missed} events` });
  return found;
}

const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
