// A chart of rates over the last minutes, as SVG; lines have gaps where nothing is known.

import { el, rate } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 18, HEIGHT = 150;
const SPAN_S = 600;

export function svg(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The smallest of 1, 2 or 5 times a power of ten that is not below.
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

// A number on the axis, such as 2.5 k.
function tick(value) {
  return rate(value).replace(/\.0+(?= |$)/, "").replace(/(\.\d)0(?= |$)/, "$1");
}

export class Chart {
  // lines: [{ column, label, style }]; style is "", "two" or "lost".
  constructor(parent, title, unit, lines) {
    this.title = title;
    this.unit = unit;
    this.lines = lines;
    this.history = null;
    this.cursor = null;
    this.values = lines.map(() => el("span"));
    const keys = lines.map((line, index) =>
      el("span", { class: `key ${line.style}` }, `${line.label} `, this.values[index]));
    this.image = svg("svg", { class: "chart", role: "img" });
    parent.append(el("figure", {}, el("figcaption", {}, el("strong", {}, title), ...keys),
      this.image));
    this.image.addEventListener("pointermove", (event) => this.point(event));
    this.image.addEventListener("pointerleave", () => { this.cursor = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.image);
  }

  show(history) {
    this.history = history;
    this.draw();
  }

  point(event) {
    const times = this.history?.times ?? [];
    if (!times.length) return;
    const x = event.clientX - this.image.getBoundingClientRect().left;
    const time = this.end() - SPAN_S + ((x - LEFT) / this.inner()) * SPAN_S;
    const nearest = times.reduce((best, each, index) =>
      Math.abs(each - time) < Math.abs(times[best] - time) ? index : best, 0);
    this.cursor = nearest;
    this.draw();
  }

  end() { return this.history.times.at(-1); }

  inner() { return Math.max(50, this.image.clientWidth - LEFT - RIGHT); }

  draw() {
    const width = this.image.clientWidth;
    if (!this.history || !width) return;
    const { times } = this.history;
    this.image.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const columns = this.lines.map((line) => this.history[line.column] ?? []);
    const most = roundUp(Math.max(0, ...columns.flat().filter((value) => value !== null)));
    const x = (time) => LEFT + (1 - (this.end() - time) / SPAN_S) * this.inner();
    const y = (value) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
    this.image.replaceChildren(...this.grid(most, x, y));
    this.lines.forEach((line, index) => this.drawLine(line, times, columns[index], x, y));
    const shown = this.cursor ?? times.length - 1;
    this.values.forEach((value, index) => {
      value.textContent = rate(columns[index][shown], this.unit);
    });
    if (this.cursor !== null && times.length) {
      const at = x(times[this.cursor]);
      this.image.append(svg("line", {
        class: "cursor", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM,
      }));
    }
    this.image.setAttribute("aria-label", `${this.title}, last ten minutes: ${this.lines.map(
      (line, index) => `${line.label} ${this.values[index].textContent}`).join(", ")}`);
  }

  *grid(most, x, y) {
    for (const part of [0, 0.5, 1]) {
      const level = y(part * most);
      yield svg("line", {
        class: "grid", x1: LEFT, x2: LEFT + this.inner(), y1: level, y2: level,
      });
      yield svg("text", { x: LEFT - 6, y: level + 4, "text-anchor": "end" },
        tick(part * most));
    }
    if (!this.history.times.length) return;
    for (const minutes of [10, 5, 0]) {
      const anchor = minutes === 10 ? "start" : minutes ? "middle" : "end";
      yield svg("text", { x: x(this.end() - minutes * 60), y: HEIGHT - 3, "text-anchor": anchor },
        minutes ? `${minutes} min ago` : "now");
    }
  }

  drawLine(line, times, values, x, y) {
    let path = "", area = "", start = null;
    const close = (last) => {
      if (start !== null) area += `L${x(last)} ${y(0)}L${start} ${y(0)}Z`;
      start = null;
    };
    times.forEach((time, index) => {
      const value = values[index];
      if (value === null || value === undefined || time < this.end() - SPAN_S) {
        close(times[index - 1]);
        return;
      }
      const place = `${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
      path += `${start === null ? "M" : "L"}${place}`;
      area += `${start === null ? "M" : "L"}${place}`;
      start ??= x(time);
    });
    close(times.at(-1));
    this.image.append(svg("path", { class: `area ${line.style}`, d: area || "M0 0" }),
      svg("path", { class: `line ${line.style}`, d: path || "M0 0" }));
  }
}

export const RATES = [{ column: "matched_pps", label: "matched", style: "" },
  { column: "sent_pps", label: "sent", style: "two" }];
export const BITS = [{ column: "matched_bits_per_s", label: "matched", style: "" }];
export const LOSS = [{ column: "lost_pps", label: "lost", style: "lost" }];

// The three charts of a history; returns a function that shows another one.
export function threeCharts(parent) {
  const charts = [new Chart(parent, "Datagrams", "/s", RATES),
    new Chart(parent, "Payload", "bit/s", BITS), new Chart(parent, "Lost copies", "/s", LOSS)];
  return (history) => charts.forEach((chart) => chart.show(history));
}
