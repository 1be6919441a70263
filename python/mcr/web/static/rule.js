// One rule: its state and facts, rates, outputs, flows, latest events and findings.

import { threeCharts } from "./chart.js";
import { LatencyChart } from "./latency.js";
import {
  ago, byId, count, counted, el, eventItem, fillTable, findingsList, getJson, moment, rate, reasons,
  statePill,
} from "./dom.js";

const FACTS = [["obstacle", "Obstacle"], ["shadowed_by", "Shadowed by"],
  ["last_source", "Last sender"], ["unmatched", "Unmatched datagrams"],
  ["unmatched_port", "Port without a rule"], ["unmatched_source", "Rejected sender"]];

const LEG_TONES = { active: "good", standby: "", down: "bad" };

function part(title, ...children) {
  const id = `part-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title), ...children);
}

const scroll = (label, table) =>
  el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, table);

export class RuleView {
  constructor(id) {
    this.id = id;
    this.heading = el("h2", { tabindex: "-1" }, id);
    this.facts = el("dl", { class: "facts" });
    this.legs = el("table");
    this.inputs = part("Inputs", scroll("Inputs", this.legs));
    this.outputs = el("table");
    this.flows = el("table");
    this.events = el("ol", { class: "events", tabindex: "0", "aria-label": "Events of this rule" });
    this.findings = el("div", { "aria-live": "polite" });
    const charts = el("div", { class: "charts" });
    const latency = el("div");
    const check = el("button", { type: "button", onclick: () => this.diagnose() },
      "Check this host for the rule");
    byId("rule").replaceChildren(
      el("p", { class: "back" }, el("a", { href: "#/" }, "All rules")),
      el("section", { "aria-label": "State" }, this.heading, this.facts),
      part("The last ten minutes", charts),
      part("Latency", latency),
      this.inputs,
      part("Outputs", scroll("Outputs", this.outputs)),
      part("Flows", scroll("Flows", this.flows)),
      part("Events", this.events),
      part("Findings", check, this.findings));
    this.showHistory = threeCharts(charts);
    this.latency = new LatencyChart(latency);
  }

  async refresh() {
    const answer = await getJson(`/api/rules/${encodeURIComponent(this.id)}`);
    const { rule, time } = answer;
    this.heading.textContent = rule.name ?? rule.id;
    document.title = `${rule.name ?? rule.id}: mcr`;
    this.showFacts(rule, time);
    this.showHistory(answer.history);
    this.latency.show(rule);
    this.showInputs(rule.merge);
    this.showOutputs(rule);
    this.showFlows(answer.flows, time);
    const events = answer.events.reverse().map(eventItem);
    if (!events.length) events.push(el("li", { class: "muted" }, "none"));
    this.events.replaceChildren(...events);
    return answer;
  }

  showFacts(rule, now) {
    const { facts } = rule;
    const rows = [
      ["State", el("span", {}, statePill(rule.state_code), ` ${rule.state}`)],
      ["Rule", el("span", { class: "text" }, rule.rule)],
      ["Id", el("span", { class: "text" }, rule.id)],
    ];
    for (const alarm of rule.alarms ?? []) {
      const where = alarm.leg ? ` (input ${alarm.leg})` : "";
      const since = el("span", { class: "bad-text" }, `${alarm.code.replace("_", " ")}${where}: `
        + `expected ${rate(alarm.expected)}, seen ${rate(alarm.seen)}, since `, moment(alarm.since));
      rows.push(["Alarm", since]);
    }
    if (rule.matched !== undefined) {
      const now1s = rule.rate_1s;
      rows.push(["Matched", `${count(rule.matched)} datagrams, ${count(rule.matched_bytes)} bytes`],
        ["Now", now1s ? `${rate(now1s.pps, "/s")}, ${rate(now1s.bits_per_s, "bit/s")}` : "–"]);
    }
    if (rule.offload) {
      rows.push(["Relayed by", `the ${rule.offload}`
        + (rule.offload_reason ? ` (${rule.offload_reason})` : "")]);
    }
    rows.push(["Last datagram", facts.last_seen === null ? "never"
      : el("span", {}, moment(facts.last_seen), ` (${ago(facts.last_seen, now)})`)]);
    for (const [name, label] of FACTS) {
      if (facts[name]) rows.push([label, String(facts[name])]);
    }
    this.facts.replaceChildren(...rows.flatMap(([label, value]) =>
      [el("dt", {}, label), el("dd", {}, value)]));
  }

  // Those of a merging rule; another rule's input is in its text.
  showInputs(merge) {
    this.inputs.hidden = !merge;
    if (!merge) return;
    const columns = [["Input", false], ["Status", false], ["Received", true], ["First", true],
      ["Late", true], ["Duplicate", true], ["Out of sequence", true], ["Missing", true],
      ["Behind p50", true], ["Behind p99", true]];
    const ms = (value) => (value === null ? "–" : `${value} ms`);
    const rows = merge.legs.map((leg, index) => [
      el("span", { class: "text" }, `${index + 1}: ${leg.input}`),
      el("span", { class: `pill ${LEG_TONES[leg.status] ?? "warn"}` }, leg.status),
      count(leg.received), count(leg.first), count(leg.late), count(leg.duplicate),
      count(leg.out_of_sequence), count(leg.missing), ms(leg.skew_p50_ms), ms(leg.skew_p99_ms),
    ]);
    const caption = merge.active === null
      ? `Merged; numbers on no input: ${count(merge.lost)}, restarts: ${count(merge.restarts)}`
      : `Input ${merge.active} is sent; switches: ${count(merge.switches)}`;
    fillTable(this.legs, caption, columns, rows);
  }

  showOutputs(rule) {
    const columns = [["Output", false], ["State", false], ["Out/s", true], ["Lost/s", true],
      ["Wanted", true], ["Sent", true], ["Lost", true], ["Reasons", false], ["Way", false]];
    const rows = rule.outputs.map((output) => [
      el("span", { class: "text" }, output.output),
      output.parked ? el("span", { class: "bad-text" }, output.parked) : "ready",
      rate(output.rate_1s?.pps), rate(output.rate_1s?.dropped_pps),
      count(output.wanted), count(output.sent),
      count(output.dropped ? Object.values(output.dropped).reduce((a, b) => a + b, 0) : null),
      output.dropped ? reasons({ ...output.dropped, ...output.errors }) : "–",
      output.way_reason ? `${output.way} (${output.way_reason})` : output.way,
    ]);
    fillTable(this.outputs, counted(rows.length, "output"), columns, rows);
  }

  showFlows(flows, now) {
    if (!flows.counted) {
      this.flows.replaceChildren(el("caption", {},
        "Not counted: start the daemon with mcr serve --flows."));
      return;
    }
    const columns = [["Sender", false], ["To", false], ["In/s", true], ["Payload", true],
      ["Datagrams", true], ["Lost before mcr", true], ["TTL", true], ["DSCP", true], ["Last seen", true]];
    const rows = flows.flows.map((flow) => [
      el("span", { class: "text" }, `${flow.source} port ${flow.source_port}`),
      el("span", { class: "text" }, `${flow.group} port ${flow.port}`),
      rate(flow.rate_1s?.pps), rate(flow.rate_1s?.bits_per_s, "bit/s"), count(flow.datagrams),
      flow.sequence?.unit ? count(flow.sequence.lost) : "",
      flow.ttl_min === flow.ttl_max ? String(flow.ttl_min) : `${flow.ttl_min} to ${flow.ttl_max}`,
      flow.dscps.join(", "), ago(flow.last_seen, now),
    ]);
    const part = rows.length < flows.total ? `${rows.length} of ` : "";
    const caption = `${part}${counted(flows.total, "flow")}, the largest first`;
    fillTable(this.flows, caption, columns, rows);
  }

  async diagnose() {
    this.findings.replaceChildren(el("p", { class: "muted" }, "Checking."));
    try {
      const answer = await getJson(`/api/doctor?rule=${encodeURIComponent(this.id)}`);
      this.findings.replaceChildren(findingsList(answer.findings));
    } catch (error) {
      this.findings.replaceChildren(el("p", { class: "bad-text" }, error.message));
    }
  }
}
