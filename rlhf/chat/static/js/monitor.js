// The monitor: asks for the figures every few seconds, and redraws only what has changed.

import { announce, byId, drawIcons, h, themeButton } from "./dom.js";
import { api } from "./api.js";
import { FIGURES } from "./figures.js";
import { bytes, number, seconds } from "./format.js";
import { clear, draw } from "./plot.js";
import { table, tests, versionTable, whenOpen } from "./tables.js";
import { Training } from "./training.js";

const EVERY_MS = 4000;
const KEPT = 60; // points of the small lines
const WIDTH = 120;
const SVG = "http://www.w3.org/2000/svg";

// Name, what to draw a line of, [value, unit] and the note below.
const TILES = [
  ["First token", (s) => s.times.first_token.p50, (s) => seconds(s.times.first_token.p50), (s) => `p95 ${seconds(s.times.first_token.p95).join(" ")}`],
  ["Whole reply", (s) => s.times.whole.p50, (s) => seconds(s.times.whole.p50), (s) => `p95 ${seconds(s.times.whole.p95).join(" ")}`],
  ["Speed of a reply", (s) => s.times.tokens_per_second, (s) => [number(s.times.tokens_per_second, 0), "tokens/s"], (s) => `all: ${number(s.times.throughput, 1)} tokens/s`],
  ["Replies", (s) => s.times.replies, (s) => [number(s.times.replies, 0), ""], (s) => `in the last ${Math.round(s.times.window / 60)} min`],
  ["Queue", (s) => s.queue.waiting + s.queue.active, (s) => [number(s.queue.waiting, 0), `of ${s.queue.size}`], (s) => `${number(s.queue.active, 0)} being written`],
  ["Memory", (s) => s.memory.gpu ?? s.memory.resident, (s) => bytes(s.memory.resident), (s) => (s.memory.gpu === null ? "of the server" : `GPU ${bytes(s.memory.gpu).join(" ")} of ${bytes(s.memory.gpu_total).join(" ")}`)],
];

class Monitor {
  constructor() {
    this.history = [];
    this.drawn = new Map(); // part of the page → what it was drawn from
    this.training = new Training();
    this.paused = false;
    this.tiles = TILES.map(([name]) => tile(name));
    byId("tiles").append(...this.tiles.map((one) => one.element));
    for (const id of Object.keys(FIGURES)) byId(id).querySelector("[data-figure]").setAttribute("role", "img");
  }

  start() {
    themeButton(byId("theme"), () => this.again());
    byId("pause").addEventListener("click", () => this.pause());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.tick(); });
    this.tick();
  }

  pause() {
    this.paused = !this.paused;
    byId("pause").textContent = this.paused ? "Go on" : "Pause";
    byId("pause").setAttribute("aria-pressed", String(this.paused));
    announce(this.paused ? "Paused" : "Going on");
    if (this.paused) this.status("", `Paused at ${time(this.last)}`);
    else this.tick();
  }

  // One request at a time; none while nobody looks.
  async tick() {
    clearTimeout(this.timer);
    if (this.paused || this.asking || document.hidden) return;
    this.asking = true;
    try {
      const snapshot = await api("GET", "/api/monitor");
      if (!this.paused) this.show(snapshot);
    } catch (error) {
      this.lost(error);
    }
    this.asking = false;
    document.body.dataset.ready = "true";
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tick(), EVERY_MS);
  }

  status(state, text) {
    byId("state").className = `state ${state}`;
    byId("updated").textContent = text;
  }

  lost(error) {
    if (!error.code) console.error(error);
    this.status("lost", this.last ? `As of ${time(this.last)}` : "No figures");
    const box = byId("problem");
    const text = [error.message, error.todo].filter(Boolean).join(" ");
    if (box.textContent !== text) box.textContent = text;
    box.hidden = false;
  }

  show(snapshot) {
    this.last = snapshot.time;
    byId("problem").hidden = true;
    this.status("live", `Updated ${time(snapshot.time)}`);
    this.history = [...this.history, snapshot].slice(-KEPT);
    TILES.forEach(([, , value, note], n) => this.tiles[n].show(value(snapshot), note(snapshot), this.history.map(TILES[n][1])));
    this.changed("versions", [snapshot.versions], () => byId("versions").querySelector("[data-table]").replaceChildren(versionTable(snapshot.versions)));
    this.changed("tests", [snapshot.tests], () => this.tests(snapshot.tests));
    for (const [id, figure] of Object.entries(FIGURES)) this.changed(id, figure.needs(snapshot), () => this.figure(id, figure, snapshot));
    this.changed("training", [snapshot.curves], () => this.training.show(snapshot.curves));
  }

  // Other colours: everything is drawn anew from what is there.
  again() {
    this.drawn.clear();
    if (this.history.length) this.show(this.history.pop());
    if (this.paused) this.status("", `Paused at ${time(this.last)}`);
  }

  changed(part, from, redraw) {
    const text = JSON.stringify(from);
    if (this.drawn.get(part) === text) return;
    this.drawn.set(part, text);
    redraw();
  }

  figure(id, { make, empty }, snapshot) {
    const [place, words, details, rows, warning] = ["figure", "empty", "details", "table", "warning"].map((name) => byId(id).querySelector(`[data-${name}]`));
    const found = make(snapshot);
    words.textContent = empty;
    words.hidden = Boolean(found);
    place.hidden = details.hidden = !found;
    if (!found) {
      warning.textContent = "";
      return clear(place);
    }
    if (!draw(place, found.traces, found.how)) {
      place.hidden = true;
      details.open = true;
    }
    place.setAttribute("aria-label", `${byId(`${id}-title`).textContent}. ${found.says}. The table below has all of it.`);
    whenOpen(details, rows, () => table(found.head, found.rows));
    warning.textContent = found.warns ?? "";
  }

  tests(found) {
    byId("tests").querySelector("[data-tests]").replaceChildren(...tests(found));
    const words = byId("tests").querySelector("[data-empty]");
    words.hidden = Boolean(found.length);
    words.textContent = "There is no challenger. A version that is registered as a candidate, by --phase improve for one, is tested against the live one, and the verdict stands here.";
  }
}

function time(unix) {
  return unix ? new Date(unix * 1000).toLocaleTimeString("en-GB") : "the start";
}

// A figure with its unit, a note, and a small line of how it went since the page was opened.
function tile(name) {
  const [value, unit, note] = [h("span"), h("span", { class: "unit" }), h("dd", { class: "note" })];
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "polyline");
  for (const [key, text] of Object.entries({ class: "trend", viewBox: `0 0 ${WIDTH} 26`, preserveAspectRatio: "none", "aria-hidden": "true" })) svg.setAttribute(key, text);
  svg.append(line);
  const element = h("div", { class: "tile" }, h("dt", {}, name), h("dd", { class: "value" }, value, unit), note, svg);
  const show = ([number, of], words, history) => {
    for (const [place, text] of [[value, number], [unit, of], [note, words]]) if (place.textContent !== text) place.textContent = text;
    line.setAttribute("points", points(history));
  };
  return { element, show };
}

function points(history) {
  const known = history.filter(Number.isFinite);
  if (!known.length || history.length < 2) return "";
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const at = (value) => (high > low ? 24 - (22 * (value - low)) / (high - low) : 24);
  const step = WIDTH / (history.length - 1);
  return history.flatMap((value, n) => (Number.isFinite(value) ? [`${(step * n).toFixed(1)},${at(value).toFixed(1)}`] : [])).join(" ");
}

drawIcons();
new Monitor().start();
