// Tables and facts of the monitor, as nodes.

import { h } from "./dom.js";
import { count, day, interval, number, short } from "./format.js";

export function table(head, rows, numbers = new Set()) {
  const cells = (row) => row.map((cell, n) => (n === 0 ? h("th", { scope: "row" }, cell) : h("td", { class: numbers.has(n) ? "number" : null }, cell)));
  return h("table", {},
    h("thead", {}, h("tr", {}, head.map((name, n) => h("th", { scope: "col", class: numbers.has(n) ? "number" : null }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, cells(row)))));
}

// Built when somebody opens it, and anew when that which it shows has changed.
export function whenOpen(details, place, build) {
  details.ontoggle = () => place.replaceChildren(...(details.open ? [build()] : []));
  details.ontoggle();
}

export function badge(word, text = word) {
  return h("span", { class: `badge ${/^[a-z]+$/.test(word) ? word : ""}` }, text);
}

export function versionTable(versions) {
  const metrics = ({ metrics: found }) => Object.entries(found).map(([name, value]) => `${name} ${short(value)}`).join(", ") || "–";
  const built = table(
    ["Version", "State", "Strength", "Duels", "Made from", "Made on", "Measured"],
    versions.map((one) => [
      one.name, badge(one.state), one.strength === null ? "–" : `${short(one.strength)} (${interval(one.low, one.high)})`,
      number(one.duels, 0), one.parent ?? "–", day(one.created), metrics(one),
    ]));
  for (const row of built.tBodies[0].rows) row.lastChild.className = "wrap";
  return built;
}

const DECISIONS = {
  continue: ["still open", "There is no decision yet: more judgements are needed."],
  promote: ["promote", "The challenger is better: it should be promoted."],
  retire: ["retire", "The live version is better: the challenger should be retired."],
};

export function tests(found) {
  return found.map((test) => {
    const [word, sentence] = Object.hasOwn(DECISIONS, test.decision) ? DECISIONS[test.decision] : [test.decision, ""];
    const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
    return h("article", { class: "test" },
      h("div", { class: "test-head" }, h("strong", {}, `${test.challenger} against ${test.live}`), badge(test.decision, word)),
      sentence ? h("p", {}, sentence) : null,
      h("dl", { class: "test-facts" },
        fact("Difference", test.live_judgements && test.challenger_judgements ? short(test.difference) : "–"),
        fact("Interval", interval(test.low, test.high)), fact("p-value", test.p_value < 1e-4 ? "< 0.0001" : short(test.p_value)),
        fact("Judgements", `${count(test.challenger_judgements, "challenger", "challenger")}, ${count(test.live_judgements, "live", "live")}`)));
  });
}
