// The page: follows the stream of the server, and shows all rules or one.

import { threeCharts } from "./chart.js";
import {
  byId, count, counted, el, eventItem, fillTable, findingsList, getJson, rate, reasons, span,
} from "./dom.js";
import { RuleView } from "./rule.js";
import { RulesTable } from "./rules.js";

const EVENTS_SHOWN = 100;
const SAMPLES = 300;
const RETRY_MS = 5000;
let view = null; // of one rule; null while all are shown
let history = null;
let busy = false;
let again = false;

const showHistory = threeCharts(byId("charts"));
const rules = new RulesTable(() => refresh());

async function refresh() {
  if (busy) {
    again = true; // the question may have changed meanwhile
    return;
  }
  busy = true;
  try {
    showSummary(await (view ? view.refresh() : refreshOverview()));
    showFailure(null);
  } catch (error) {
    showFailure(error.message);
  } finally {
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

async function refreshOverview() {
  const answer = await getJson(`/api/overview?${rules.query()}`);
  const { table, latest } = answer;
  const losing = latest.lost_pps > 0;
  showTiles([["Rules", count(table.total), ""], ["Flowing", count(table.states.flowing ?? 0), ""],
    ["Problems", count(table.problems), table.problems ? "bad" : "good"],
    ["In", rate(latest.matched_pps, "/s"), ""], ["Payload in", rate(latest.matched_bits_per_s,
      "bit/s"), ""], ["Out", rate(latest.sent_pps, "/s"), ""],
    ["Lost", rate(latest.lost_pps, "/s"), losing ? "bad" : ""]]);
  rules.show(table, answer.time);
  showInterfaces(answer.interfaces);
  byId("workers").replaceChildren(...answer.workers.map(workerItem));
  return answer;
}

function showSummary(answer) {
  const running = answer.workers.filter((worker) => worker.state === "running").length;
  byId("about").textContent = `${answer.server}, up ${span(answer.uptime_s)}, revision `
    + `${answer.revision}, ${running} of ${counted(answer.workers.length, "worker")} running`;
  const [first] = answer.problems;
  showStatus(first ? "warn" : "good", first ? "not ready" : "ready");
  byId("status").title = answer.problems.join("\n");
}

function showTiles(tiles) {
  byId("tiles").replaceChildren(...tiles.map(([label, value, tone]) =>
    el("div", { class: tone }, el("dt", {}, label), el("dd", {}, value))));
}

function showInterfaces(interfaces) {
  const columns = [["Interface", false], ["Ingress", false], ["In/s", true], ["Payload", true],
    ["Received", true], ["Matched", true], ["Lost by the kernel", true], ["Dropped", false]];
  const rows = interfaces.map((each) => [each.name, each.error
    ? el("span", { class: "bad-text" }, `${each.ingress}, ended: ${each.error}`) : each.ingress,
    rate(each.rate_1s?.pps), rate(each.rate_1s?.bits_per_s, "bit/s"), count(each.received),
    count(each.matched), count(each.kernel_dropped_frames), reasons(each.dropped)]);
  fillTable(byId("interfaces"), `${counted(rows.length, "interface")} with inputs`, columns, rows);
}

function workerItem(worker) {
  const died = worker.last_death ? `, last death: ${worker.last_death.cause}` : "";
  return el("li", {}, `Worker ${worker.number}: `,
    el("span", { class: `pill ${worker.state === "running" ? "good" : "bad"}` }, worker.state),
    ` ${counted(worker.deaths, "death")}${died}`);
}

function showStatus(tone, text) {
  byId("status").className = `pill ${tone}`;
  byId("status").textContent = text;
}

function showFailure(text) {
  byId("failure").hidden = text === null;
  byId("failure").textContent = text ?? "";
  if (text !== null) showStatus("bad", "no data");
}

function addSample(sample) {
  if (history && sample.times !== null && sample.times !== history.times.at(-1)) {
    for (const [name, values] of Object.entries(history)) {
      values.push(sample[name] ?? null);
      if (values.length > SAMPLES) values.shift();
    }
    if (!view) showHistory(history);
  }
  refresh();
}

function addEvents(events) {
  const list = byId("events");
  list.prepend(...events.reverse().map(eventItem));
  while (list.children.length > EVENTS_SHOWN) list.lastChild.remove();
}

async function begin() {
  const stream = new EventSource("/api/stream");
  stream.addEventListener("sample", (message) => addSample(JSON.parse(message.data)));
  stream.addEventListener("event", (message) => addEvents([JSON.parse(message.data)]));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(begin, RETRY_MS);
    refresh(); // without the stream this keeps the page current, or says why it is not
  });
  stream.addEventListener("open", load);
}

async function load() {
  try {
    history = await getJson("/api/history");
    const { events } = await getJson("/api/events");
    byId("events").replaceChildren();
    addEvents(events.slice(-EVENTS_SHOWN));
    if (!view) showHistory(history);
  } catch (error) {
    showFailure(error.message);
  }
}

function route() {
  const id = /^#\/rule\/([0-9a-f]+)$/.exec(location.hash)?.[1];
  view = id ? new RuleView(id) : null;
  byId("overview").hidden = view !== null;
  byId("rule").hidden = view === null;
  document.title = "mcr";
  if (view) {
    view.heading.focus();
    scrollTo(0, 0);
  } else if (history) showHistory(history);
  refresh();
}

byId("diagnose").addEventListener("click", async () => {
  byId("findings").replaceChildren(el("p", { class: "muted" }, "Checking."));
  try {
    const { findings } = await getJson("/api/doctor");
    byId("findings").replaceChildren(findingsList(findings));
  } catch (error) {
    byId("findings").replaceChildren(el("p", { class: "bad-text" }, error.message));
  }
});
addEventListener("hashchange", route);
route();
begin();
