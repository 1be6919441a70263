// Elements without markup in texts, and numbers and times as people read them.

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

export function count(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}

// A number with its noun, such as "3 rules".
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

// A rate with a decimal prefix, such as 1.25 M.
export function rate(value, unit = "") {
  if (value === null || value === undefined) return "–";
  for (const [factor, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= factor) return `${short(value / factor)} ${prefix}${unit}`;
  }
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`.trim();
}

function short(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function span(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [index, [length, unit]] of units.entries()) {
    if (seconds < length) continue;
    const whole = Math.floor(seconds / length);
    const [less, lessUnit] = units[index + 1] ?? [1, "s"];
    const rest = Math.floor((seconds - whole * length) / less);
    return rest ? `${whole} ${unit} ${rest} ${lessUnit}` : `${whole} ${unit}`;
  }
  return `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
}

export function ago(time, now) {
  if (time === null || time === undefined) return "never";
  return now - time < 1 ? "now" : `${span(now - time)} ago`;
}

export function moment(time) {
  return el("time", { datetime: new Date(time * 1000).toISOString() },
    new Date(time * 1000).toLocaleString("sv"));
}

const TONES = {
  flowing: "good", silent: "warn", joined: "", shadowed: "warn", waiting: "bad", unresolved: "bad",
  disabled: "", below_expected: "bad", looping: "bad", above_expected: "warn",
  degraded: "warn",
};

export function statePill(code) {
  return el("span", { class: `pill ${TONES[code] ?? "warn"}` }, code ?? "unknown");
}

// A table: columns are [heading, is a number]; rows are arrays of texts or elements.
export function fillTable(table, caption, columns, rows) {
  const head = columns.map(([text, number]) =>
    el("th", { scope: "col", class: number ? "number" : null }, text));
  const body = rows.map((cells) => el("tr", {}, ...cells.map((cell, index) =>
    el(index ? "td" : "th", {
      scope: index ? null : "row", class: columns[index][1] ? "number" : null,
    }, cell))));
  table.replaceChildren(el("caption", {}, caption), el("thead", {}, el("tr", {}, ...head)),
    el("tbody", {}, ...body));
}

// The reasons that count, such as "no_rule 12, source 3".
export function reasons(counts) {
  const found = Object.entries(counts).filter(([, value]) => value);
  return found.map(([name, value]) => `${name} ${count(value)}`).join(", ") || "none";
}

export function eventItem(event) {
  return el("li", {}, moment(event.at), event.text);
}

export function findingsList(findings) {
  const order = { problem: 0, advice: 1, ok: 2 };
  const tones = { problem: "bad", advice: "warn", ok: "good" };
  const sorted = [...findings].sort((a, b) => order[a.severity] - order[b.severity]);
  if (!sorted.length) return el("p", { class: "muted" }, "Nothing to report.");
  return el("ul", { class: "findings" }, ...sorted.map((each) => el("li", {},
    el("span", { class: `pill ${tones[each.severity]}` }, each.severity), ` ${each.text}`,
    each.fix ? el("code", { class: "text" }, each.fix) : null)));
}

export async function getJson(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.status === 401) location.assign("/login");
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error ?? `the server answered ${answer.status}`);
  return value;
}
