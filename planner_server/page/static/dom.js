// Small helpers: elements, numbers as text, and one drawing per animation frame.

/** Make an element: h("button", {class: "x", onclick: f}, "text", child). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "test") element.dataset.testid = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A titled box of a view. */
export function panel(title, attributes, ...children) {
  const { class: extra = "", aside = null, ...rest } = attributes;
  return h("section", { class: `panel ${extra}`, "aria-label": title, ...rest },
    h("header", { class: "panel-head" }, h("h2", {}, title), aside), ...children);
}

/** Write text only where it has changed: the browser lays out nothing for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Switch a control, and say why where it is off. */
export function setEnabled(button, isEnabled, reason = "") {
  button.disabled = !isEnabled;
  button.title = isEnabled ? "" : reason;
}

export const number = (value, digits = 3) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
export const centimetres = (metres, digits = 1) => (Number.isFinite(metres) ? `${(100 * metres).toFixed(digits)} cm` : "–");
export const milliseconds = (value) => (Number.isFinite(value) ? `${Math.round(value)} ms` : "–");

/** How long ago, or how long, in words for people. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export const clock = (date) => new Date(date).toLocaleTimeString([], { hour12: false });
export const dateAndTime = (date) => new Date(date).toLocaleString([], {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** The value of a colour or length of the style sheet. */
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Give a canvas as many pixels as it has on the screen; returns its context in CSS pixels and its size. */
export function sized(canvas, aspect = null) {
  const width = Math.max(1, canvas.clientWidth);
  const height = Math.max(1, aspect ? Math.round(width / aspect) : canvas.clientHeight);
  const scale = Math.min(2, window.devicePixelRatio || 1);
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return { context, width, height };
}

/** Return a function that has `draw` called once before the next repaint, however often it is called itself. */
export function perFrame(draw) {
  let isWanted = false;
  return () => {
    if (isWanted) return;
    isWanted = true;
    requestAnimationFrame(() => { isWanted = false; draw(); });
  };
}

/** Open a dialog beside the page, not above it: STOP ALL stays within reach. Escape closes it. */
export function openDialog(dialog, field) {
  if (!dialog.dataset.hasKeys) {
    dialog.dataset.hasKeys = "true";
    dialog.addEventListener("keydown", (event) => { if (event.key === "Escape") dialog.close(); });
    dialog.addEventListener("close", () => dialog.returnTo?.focus());
  }
  dialog.returnTo = document.activeElement;
  if (!dialog.open) dialog.show();
  field.focus();
}

/** Save data as a file on the operator's machine. */
export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
