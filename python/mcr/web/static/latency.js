// The latency of a rule: its percentiles, and the histogram since the rule was added.

import { roundUp, svg } from "./chart.js";
import { count, el, rate } from "./dom.js";

const LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 18, HEIGHT = 150;
const KEYS = [["p50_us", "p50"], ["p99_us", "p99"], ["p999_us", "p99.9"], ["max_us", "max"]];

// A time with its unit, such as 1.25 ms.
export function time(us) {
  if (us === null || us === undefined) return "–";
  const [value, unit] = us < 1e3 ? [us, "µs"] : us < 1e6 ? [us / 1e3, "ms"] : [us / 1e6, "s"];
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} `
    + unit;
}

// Datagrams for each power of two of the time, [least time, datagrams], without a gap.
function octaves(buckets) {
  const counts = new Map();
  for (const [least, , datagrams] of buckets) {
    const power = Math.floor(Math.log2(Math.max(least, 0.512) * 1000) + 1e-9);
    counts.set(power, (counts.get(power) ?? 0) + datagrams);
  }
  const powers = [...counts.keys()];
  const first = Math.min(...powers), last = Math.max(...powers);
  return Array.from({ length: last - first + 1 }, (_, index) =>
    [2 ** (first + index) / 1000, counts.get(first + index) ?? 0]);
}

export class LatencyChart {
  constructor(parent) {
    this.latency = null;
    this.note = el("p", { class: "muted" });
    this.values = KEYS.map(() => el("span"));
    const keys = KEYS.map(([, label], index) =>
      el("span", {}, `${label} `, this.values[index]));
    this.image = svg("svg", { class: "chart", role: "img" });
    this.figure = el("figure", {}, el("figcaption", {},
      el("strong", {}, "Through the relay"), ...keys), this.image);
    parent.append(this.note, this.figure);
    new ResizeObserver(() => this.draw()).observe(this.image);
  }

  show(rule) {
    const { latency } = rule;
    this.latency = latency?.samples ? latency : null;
    this.figure.hidden = !this.latency;
    this.note.hidden = !!this.latency;
    this.note.textContent = latency === null || latency === undefined
      ? "Not measured: the daemon runs without --latency." : rule.offload === "kernel"
        ? "None: the kernel relays this rule." : "No datagram yet.";
    this.draw();
  }

  draw() {
    const width = this.image.clientWidth;
    if (!this.latency || !width) return;
    KEYS.forEach(([name], index) => {
      this.values[index].textContent = time(this.latency[name]);
    });
    const bars = octaves(this.latency.buckets);
    const most = roundUp(Math.max(...bars.map(([, datagrams]) => datagrams)));
    const step = Math.max(50, width - LEFT - RIGHT) / bars.length;
    const y = (value) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
    this.image.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.image.replaceChildren(...this.axis(most, width, y),
      ...bars.flatMap((bar, index) => [...this.bar(bar, LEFT + index * step, step, y)]));
    this.image.setAttribute("aria-label", `Latency of ${count(this.latency.samples)} datagrams: ${
      KEYS.map(([name, label]) => `${label} ${time(this.latency[name])}`).join(", ")}`);
  }

  *axis(most, width, y) {
    for (const part of [0, 0.5, 1]) {
      const level = y(part * most);
      yield svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: level, y2: level });
      yield svg("text", { x: LEFT - 6, y: level + 4, "text-anchor": "end" }, rate(part * most));
    }
  }

  *bar([least, datagrams], x, step, y) {
    const box = svg("rect", {
      class: "bar", x: x + 1, y: y(datagrams), width: Math.max(1, step - 2),
      height: y(0) - y(datagrams),
    });
    box.append(svg("title", {},
      `${time(least)} to ${time(2 * least)}: ${count(datagrams)} datagrams`));
    yield box;
    if (step > 44) yield svg("text", { x, y: HEIGHT - 3, "text-anchor": "start" }, time(least));
  }
}
