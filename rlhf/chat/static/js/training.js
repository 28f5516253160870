// Training curves: a small plot for each number of a phase, a line for each run.

import { byId, h, recall, remember } from "./dom.js";
import { number, short } from "./format.js";
import { clear, draw, line } from "./plot.js";
import { table, whenOpen } from "./tables.js";

const TITLES = {
  loss: "Loss", eval_loss: "Loss, held out", accuracy: "Accuracy", eval_accuracy: "Accuracy, held out", "objective/scores": "Reward in training", "eval/score": "Reward, held out",
  "objective/kl": "KL from the reference, nats", "eval/kl": "KL, held out, nats", "objective/length": "Length of replies, tokens", "objective/entropy": "Entropy, nats",
};
const ORDER = ["ppo", "reward", "sft", "base"]; // what is shown first, where nothing was chosen
const HEIGHT = 210;

export class Training {
  constructor() {
    this.phase = recall("phase", null);
    this.curves = [];
    this.panels = new Map(); // metric → panel
  }

  show(curves) {
    this.curves = curves;
    const phases = [...new Set(curves.map((curve) => curve.phase))];
    if (!phases.includes(this.phase)) this.phase = ORDER.find((phase) => phases.includes(phase)) ?? phases[0] ?? null;
    const empty = byId("training").querySelector("[data-empty]");
    empty.hidden = Boolean(phases.length);
    empty.textContent = "No run has written metrics.jsonl yet. While a phase trains (python main.py --phase sft, reward, ppo or improve), its curves grow here.";
    this.buttons(phases);
    this.redraw();
  }

  buttons(phases) {
    const place = byId("phases");
    const names = [...place.children].map((button) => button.textContent);
    if (JSON.stringify(names) !== JSON.stringify(phases)) {
      place.replaceChildren(...phases.map((phase) => h("button", { type: "button", onclick: () => this.choose(phase) }, phase)));
    }
    for (const button of place.children) button.setAttribute("aria-pressed", String(button.textContent === this.phase));
  }

  choose(phase) {
    remember("phase", phase);
    this.phase = phase;
    this.show(this.curves);
  }

  redraw() {
    const own = this.curves.filter((curve) => curve.phase === this.phase);
    const metrics = [...new Set(own.map((curve) => curve.metric))];
    const runs = [...new Set(own.map((curve) => curve.run))];
    for (const [metric, panel] of this.panels) {
      if (metrics.includes(metric)) continue;
      clear(panel.plot);
      panel.element.remove();
      this.panels.delete(metric);
    }
    for (const metric of metrics) {
      if (!this.panels.has(metric)) this.panels.set(metric, this.panel(metric));
      const panel = this.panels.get(metric);
      byId("curves").append(panel.element);
      this.fill(panel, own.filter((curve) => curve.metric === metric), runs);
    }
  }

  panel(metric) {
    const title = Object.hasOwn(TITLES, metric) ? TITLES[metric] : metric;
    const plot = h("div", { class: "figure", role: "img" });
    const rows = h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` });
    const details = h("details", { class: "as-table" }, h("summary", {}, "As a table"), rows);
    const element = h("section", { class: "curve", "aria-label": title }, h("h3", {}, title), plot, details);
    return { element, plot, details, rows, title };
  }

  fill(panel, curves, runs) {
    const traces = curves.map((curve) => line(runs.indexOf(curve.run), curve.run, curve.steps, curve.values, {
      hovertemplate: "step %{x:,}: %{y:.4~g}<extra>%{fullData.name}</extra>", mode: curve.steps.length < 2 ? "markers" : "lines",
    }));
    panel.details.open ||= !draw(panel.plot, traces, { height: HEIGHT + (runs.length > 1 ? 26 : 0), legend: runs.length > 1, x: { title: "step", nticks: 5, rangemode: "tozero" }, y: { nticks: 5 } });
    const ends = curves.map((curve) => `${curve.run} from ${short(curve.values[0])} to ${short(curve.values.at(-1))}`);
    panel.plot.setAttribute("aria-label", `${panel.title}: ${ends.join("; ")}`);
    const rows = () => curves.flatMap((curve) => curve.steps.map((step, n) => [curve.run, number(step, 0), short(curve.values[n])]));
    whenOpen(panel.details, panel.rows, () => table(["Run", "Step", "Value"], rows(), new Set([1, 2])));
  }
}
