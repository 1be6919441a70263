// The table of rules: one page of it, filtered and sorted by the server.

import { ago, byId, count, counted, el, rate, statePill } from "./dom.js";

const COLUMNS = [
  ["name", "Rule", false], ["state", "State", false], ["matched_pps", "In/s", true],
  ["bits_per_s", "Payload", true], ["sent_pps", "Out/s", true], ["lost_pps", "Lost/s", true],
  ["matched", "Matched", true], ["lost", "Lost", true], ["last_seen", "Last seen", true],
];
const STATES = ["problems", "looping", "below_expected", "above_expected", "degraded", "flowing",
  "joined", "silent", "shadowed", "waiting", "unresolved", "disabled"];

export class RulesTable {
  constructor(refresh) {
    this.refresh = refresh;
    this.offset = 0;
    this.sort = "";
    this.order = "ascending";
    this.headings = new Map();
    this.body = el("tbody");
    const caption = el("caption", {}, "Rates are those of the last second; a name opens the rule.");
    const head = el("thead", {}, el("tr", {}, ...COLUMNS.map((column) => this.heading(...column))));
    byId("rules").append(caption, head, this.body);
    byId("state").append(...STATES.map((state) => el("option", { value: state }, state)));
    for (const id of ["filter", "state", "rows"]) {
      byId(id).addEventListener("input", () => { this.offset = 0; this.refresh(); });
    }
    byId("previous").addEventListener("click", () => this.turn(-1));
    byId("next").addEventListener("click", () => this.turn(1));
  }

  heading(key, text, number) {
    const button = el("button", { type: "button", onclick: () => this.sortBy(key) }, text);
    const made = el("th", { scope: "col", class: number ? "number" : null }, button);
    this.headings.set(key, made);
    return made;
  }

  sortBy(key) {
    const first = key === "name" || key === "state" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    if (this.sort !== key) [this.sort, this.order] = [key, first];
    else if (this.order === first) this.order = other;
    else this.sort = "";
    for (const [name, heading] of this.headings) {
      if (name === this.sort) heading.setAttribute("aria-sort", this.order);
      else heading.removeAttribute("aria-sort");
    }
    this.offset = 0;
    this.refresh();
  }

  limit() { return Number(byId("rows").value); }

  turn(pages) {
    this.offset = Math.max(0, this.offset + pages * this.limit());
    this.refresh();
  }

  query() {
    return new URLSearchParams({
      text: byId("filter").value, state: byId("state").value, sort: this.sort, order: this.order,
      offset: String(this.offset), limit: String(this.limit()),
    });
  }

  show(table, now) {
    if (this.offset && this.offset >= table.found) {
      this.offset = 0;
      this.refresh();
      return;
    }
    const focused = document.activeElement?.closest("#rules tbody a")?.getAttribute("href");
    this.body.replaceChildren(...table.rows.map((row) => this.row(row, now)));
    if (focused) this.body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    if (!table.rows.length) {
      this.body.append(el("tr", {}, el("td", { colspan: COLUMNS.length, class: "muted" },
        table.total ? "No rule matches." : "The daemon has no rules.")));
    }
    const last = Math.min(this.offset + table.rows.length, table.found);
    byId("page").textContent = table.found ? `${this.offset + 1} to ${last} of ${table.found}` : "";
    byId("found").textContent = table.found === table.total
      ? counted(table.total, "rule") : `${count(table.found)} of ${counted(table.total, "rule")}`;
    byId("previous").disabled = this.offset === 0;
    byId("next").disabled = last >= table.found;
  }

  row(row, now) {
    const name = el("th", { scope: "row" },
      el("a", { href: `#/rule/${row.id}` }, row.name ?? row.id),
      el("span", { class: "text rule-text" }, row.rule));
    const number = (text, bad) => el("td", { class: bad ? "number bad" : "number" }, text);
    const state = el("td", { title: row.state }, statePill(row.state_code),
      ...row.alarms.map((text) => el("span", { class: "alarm" }, text)));
    return el("tr", {}, name, state,
      number(rate(row.matched_pps)), number(rate(row.bits_per_s, "bit/s")),
      number(rate(row.sent_pps)), number(rate(row.lost_pps), row.lost_pps > 0),
      number(count(row.matched)), number(count(row.lost), row.lost > 0),
      number(ago(row.last_seen, now)));
  }
}
