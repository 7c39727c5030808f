// Courses over time: uPlot in the page's colours, and a small line for cards.

import { css, h, number, setText, sized } from "./dom.js";

const HEIGHT_PX = 168;
const FONT = "11px ui-sans-serif, system-ui, sans-serif";

/** A plot of a few lines over time that follows its box, the colour scheme, and the data it is given. */
export class TimePlot {
  /** `series`: [{label, colour: name of a CSS variable, dash}]. */
  constructor(label, series, { test, height = HEIGHT_PX, range = null } = {}) {
    this.series = series;
    this.height = height;
    this.range = range;
    this.canvas = h("div", { class: "plot", test, role: "img", "aria-label": label });
    this.readout = h("p", { class: "readout muted small", "aria-hidden": "true" });
    this.element = h("div", { class: "plot-box" }, this.canvas, this.readout);
    this.data = [[], ...series.map(() => [])];
    this.observer = new ResizeObserver(() => this.resize());
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.repaint = () => this.build();
  }

  mount() {
    this.observer.observe(this.canvas);
    this.scheme.addEventListener("change", this.repaint);
    this.build();
  }

  unmount() {
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.repaint);
    this.plot?.destroy();
    this.plot = null;
  }

  set(data) {
    this.data = data;
    this.plot?.setData(data);
  }

  resize() {
    const width = Math.floor(this.canvas.clientWidth);
    if (!this.plot) this.build();
    else if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  /** Say the numbers under the pointer. */
  read(index) {
    const isOn = index !== null && index !== undefined && index < this.data[0].length;
    const values = isOn ? this.series.map(({ label }, place) => `${label} ${number(this.data[place + 1][index])}`) : [];
    setText(this.readout, isOn ? [time(this.data[0][index]), ...values].join(" · ") : "");
  }

  build() {
    const width = Math.floor(this.canvas.clientWidth);
    this.plot?.destroy();
    this.plot = null;
    if (width <= 0) return;
    const axis = { stroke: css("--muted"), font: FONT, ticks: { stroke: css("--line"), width: 1, size: 4 }, grid: { stroke: css("--line"), width: 1 } };
    this.plot = new window.uPlot({
      width,
      height: this.height,
      pxAlign: 1,
      padding: [8, 26, 0, 0],
      cursor: { points: { size: 6 }, drag: { x: true, y: false } },
      legend: { show: false },
      hooks: { setCursor: [(plot) => this.read(plot.cursor.idx)] },
      scales: { y: { range: this.range ?? ((plot, low, high) => widened(low, high)) } },
      axes: [
        { ...axis, size: 26, grid: { show: false }, values: (plot, ticks) => ticks.map(time) },
        { ...axis, size: 46, values: (plot, ticks) => ticks.map((value) => trimmed(value)) },
      ],
      series: [
        {},
        ...this.series.map(({ label, colour, dash }) => ({ label, stroke: css(colour), width: 1.75, dash, points: { show: false }, spanGaps: true })),
      ],
    }, this.data, this.canvas);
  }
}

/** Draw the course of a number as a thin line that fills its canvas. */
export function sparkline(canvas, values, tint) {
  const { context, width, height } = sized(canvas);
  context.clearRect(0, 0, width, height);
  const finite = values.filter(Number.isFinite);
  if (finite.length < 2) return;
  const [low, high] = widened(Math.min(...finite), Math.max(...finite));
  context.strokeStyle = tint;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.beginPath();
  values.forEach((value, index) => {
    const x = 1 + (index / (values.length - 1)) * (width - 2);
    const y = height - 2 - ((value - low) / (high - low)) * (height - 4);
    if (index) context.lineTo(x, y); else context.moveTo(x, y);
  });
  context.stroke();
}

function widened(low, high) {
  if (low === null || high === null || !Number.isFinite(low)) return [0, 1];
  const margin = Math.max(0.08 * (high - low), 1e-4 + 0.01 * Math.abs(high));
  return [low - margin, high + margin];
}

const time = (seconds) => new Date(1000 * seconds).toLocaleTimeString([], { hour12: false });
const trimmed = (value) => String(Number(value.toPrecision(3)));
