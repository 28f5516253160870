// The duel page: a question, two answers that stream at once, a choice by button or key, and then the names.
//
// asking → (waiting → streaming →) voting → voted; the state stands in <main data-state>. What the server does not tell
// before the vote is not on the page either: no name of a version is asked for anywhere here.

import { announce, byId, drawIcons, h, icon, themeButton } from "./dom.js";
import { api, events, newKey } from "./api.js";
import { renderMarkdown } from "./markdown.js";
import { shortcuts } from "./shortcuts.js";
import { explain, showError, waitingToast } from "./toast.js";

const SIDES = ["left", "right"];
const LETTERS = { left: "A", right: "B" };
const KNOWN = "You know the names now: another choice is kept, but no longer counts.";
const WHY = { active: "The reward model is unsure here", random: "Drawn at random", asked: "Your own question" };

class DuelPage {
  constructor() {
    this.main = byId("main");
    this.prompt = byId("prompt");
    this.votes = [...document.querySelectorAll("[data-choice]")];
    this.judged = 0;
    this.offer = null;
    this.texts = {};
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    this.prompt.addEventListener("input", () => this.typed());
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.ask();
    });
    for (const [id, does] of Object.entries({
      another: () => this.suggest(true), own: () => this.own(), stop: () => this.stop(), undo: () => this.undo(), next: () => this.next(),
    })) byId(id).addEventListener("click", does);
    for (const button of this.votes) button.addEventListener("click", () => this.vote(button.dataset.choice));
    addEventListener("pagehide", () => this.abort?.abort()); // also where the browser keeps the page for a way back
  }

  async start() {
    themeButton(byId("theme"));
    byId("help").addEventListener("click", shortcuts(this.keys(), [["Enter", "Ask both"], ["Shift Enter", "New line"]]));
    this.enter("asking");
    await this.suggest();
    byId("start").focus({ preventScroll: true });
    document.body.dataset.ready = "true";
  }

  keys() {
    return {
      a: ["A is better", () => this.vote("left")],
      b: ["B is better", () => this.vote("right")],
      t: ["Tie", () => this.vote("tie")],
      x: ["Both bad", () => this.vote("both_bad")],
      u: ["Take the choice back", () => this.undo()],
      n: ["Next question", () => this.next()],
      r: ["Another question", () => { if (this.state === "asking") this.suggest(true); }],
      "/": ["Ask my own", () => { if (this.state === "asking") this.own(); }],
      Escape: ["Stop the answers", () => this.stop()],
    };
  }

  enter(state) {
    this.state = state;
    this.main.dataset.state = state;
    const running = state === "waiting" || state === "streaming";
    byId("form").hidden = state !== "asking";
    byId("asked").hidden = byId("answers").hidden = byId("dock").hidden = state === "asking";
    byId("stop").hidden = !running;
    byId("votes").hidden = state === "voted";
    byId("after").hidden = state !== "voted";
    for (const button of this.votes) button.setAttribute("aria-disabled", String(state !== "voting"));
    for (const side of SIDES) {
      byId(side).classList.toggle("pending", running);
      byId(side).setAttribute("aria-busy", String(running));
    }
    if (state !== "voted") this.unname();
  }

  // ---- the question

  async suggest(other = false) {
    const asked = this.asked = Symbol();
    try {
      const offer = other ? await api("POST", "/api/duels/next", {}) : await api("GET", "/api/duels/next");
      if (asked !== this.asked || this.state !== "asking") return;
      this.offer = offer;
      this.prompt.value = offer.prompt;
      this.problem(null);
      this.typed();
      if (other) announce(`Question: ${offer.prompt}`);
    } catch (error) {
      if (asked !== this.asked) return;
      this.offer = null;
      byId("another").hidden = true; // no questions here: own ones can be asked all the same
      this.typed();
      if (error.status !== 400) showError(error);
    }
  }

  own() {
    this.asked = null;
    this.prompt.value = "";
    this.problem(null);
    this.typed();
    this.prompt.focus();
  }

  typed() {
    const text = this.prompt.value.trim();
    const chosen = text && this.offer?.prompt === this.prompt.value ? this.offer.chosen_by : "asked";
    byId("why").hidden = !text;
    byId("why").textContent = WHY[chosen] ?? chosen;
    if (this.prompt.getAttribute("aria-invalid")) this.problem(null);
  }

  problem(error) {
    const box = byId("problem");
    box.hidden = !error;
    if (!error) {
      box.replaceChildren();
      return this.prompt.removeAttribute("aria-invalid");
    }
    const detail = explain(error);
    box.replaceChildren(icon("warning"), h("div", {}, h("p", {}, error.message), detail ? h("p", { class: "hint" }, detail) : null));
    this.prompt.setAttribute("aria-invalid", "true");
    announce(`${error.message} ${detail}`);
  }

  // ---- the answers

  async ask() {
    const text = this.prompt.value;
    if (this.state !== "asking") return;
    if (!text.trim()) return this.problem({ message: "Type a question first." });
    this.begin(text);
    const abort = this.abort = new AbortController();
    try {
      for await (const { event, data } of events("/api/duels", { prompt: text }, { key: newKey(), signal: abort.signal, waiting: waitingToast() })) this.take(event, data);
    } catch (error) {
      if (abort === this.abort) this.failed(error);
    }
  }

  begin(text) {
    this.tally();
    this.duel = null;
    this.asked = null;
    this.offer = null; // the server offers another one after this
    this.problem(null);
    byId("asked-text").textContent = text;
    for (const side of SIDES) {
      this.texts[side] = "";
      this.draw(side, false);
    }
    this.enter("waiting");
    byId("stop").focus({ preventScroll: true });
    scrollTo(0, 0);
    announce("Both are answering");
  }

  take(event, data) {
    if (event === "start") {
      this.duel = data.duel;
      byId("asked-text").textContent = data.prompt; // another one, where the two never differed on the first
      this.enter("streaming");
    } else if (event === "done") {
      for (const side of SIDES) {
        this.texts[side] = data[side].text;
        this.draw(side, true);
      }
      this.complete();
    } else if (SIDES.includes(event)) {
      this.texts[event] += data.text;
      this.frame ??= requestAnimationFrame(() => {
        this.frame = null;
        if (this.state === "streaming") SIDES.forEach((side) => this.draw(side, false));
      });
    }
  }

  draw(side, whole) {
    const place = byId(`${side}-text`);
    renderMarkdown(place, this.texts[side], { whole });
    if (whole && !this.texts[side].trim()) place.replaceChildren(h("p", { class: "empty" }, "An empty answer"));
  }

  complete() {
    const moved = this.focused();
    this.enter("voting");
    if (moved) byId("votes").focus({ preventScroll: true });
    requestAnimationFrame(() => { this.shown = performance.now(); }); // now both are on the screen
    announce("Both answers are complete. Press a for A, b for B, t for a tie, x where both are bad.");
  }

  // Whether hiding what has the focus would lose it.
  focused() {
    const active = document.activeElement;
    return active === document.body || active === byId("stop") || byId("dock").contains(active) || byId("form").contains(active);
  }

  failed(error) {
    this.reset(this.prompt.value);
    if (error.name === "AbortError") return announce("Stopped");
    this.problem(error);
    this.prompt.focus();
  }

  // Back to the question, with nothing of the duel left.
  reset(text) {
    this.abort = null;
    this.duel = null;
    this.enter("asking");
    this.prompt.value = text;
    this.typed();
  }

  stop() {
    if (this.state !== "waiting" && this.state !== "streaming") return;
    const { duel, abort } = this;
    this.reset(this.prompt.value);
    abort.abort(); // the server sees the reader leave, and stops both
    if (duel) api("POST", `/api/turns/${encodeURIComponent(duel)}/stop`, {}).catch(() => {});
    announce("Stopped");
    byId("start").focus();
  }

  // ---- the choice

  path() {
    return `/api/duels/${encodeURIComponent(this.duel)}/vote`;
  }

  async vote(choice) {
    if (this.state !== "voting") return;
    this.enter("saving");
    const latency = Math.max(0, Math.round(performance.now() - (this.shown ?? performance.now())));
    try {
      const answer = await api("POST", this.path(), { choice, latency_ms: latency });
      this.judged++;
      this.name(choice, answer);
    } catch (error) {
      this.enter("voting");
      showError(error);
    }
  }

  name(choice, answer) {
    const moved = this.focused();
    this.enter("voted");
    const names = Object.fromEntries(SIDES.map((side) => [side, answer[side].version || "unknown"]));
    for (const side of SIDES) {
      const [name, won] = byId(side).querySelectorAll(".version, .won");
      name.textContent = names[side];
      name.hidden = false;
      won.hidden = choice !== side;
      byId(side).classList.toggle("chosen", choice === side);
    }
    const said = this.verdict(choice, names);
    byId("verdict").textContent = said;
    this.tally();
    if (moved) byId("next").focus({ preventScroll: true });
    announce(`Saved. ${said} A was ${names.left}, B was ${names.right}.`);
  }

  verdict(choice, names) {
    if (choice === "tie") return "You called it a tie.";
    if (choice === "both_bad") return "You found both bad.";
    const other = choice === "left" ? "right" : "left";
    const same = names.left === names.right ? `; both are by ${names.left}` : ` (${names[choice]}) over ${LETTERS[other]} (${names[other]})`;
    return `You chose ${LETTERS[choice]}${same}.`;
  }

  unname() {
    for (const side of SIDES) {
      byId(side).classList.remove("chosen");
      for (const element of byId(side).querySelectorAll(".version, .won")) element.hidden = true;
      byId(side).querySelector(".version").textContent = "";
    }
    byId("verdict").textContent = "";
  }

  async undo() {
    if (this.state !== "voted") return;
    this.state = "saving";
    try {
      await api("DELETE", this.path());
    } catch (error) {
      this.state = "voted";
      return showError(error);
    }
    this.judged--;
    this.enter("voting");
    byId("tally").textContent = KNOWN;
    byId("votes").focus({ preventScroll: true });
    announce(`Taken back. ${KNOWN}`);
  }

  tally() {
    byId("tally").textContent = this.judged ? `${this.judged} ${this.judged === 1 ? "duel" : "duels"} judged since you opened this page` : "";
  }

  async next() {
    if (this.state !== "voted") return;
    this.reset("");
    await this.suggest();
    byId(this.offer ? "start" : "prompt").focus({ preventScroll: true });
    if (this.offer) announce(`Question: ${this.offer.prompt}`);
  }
}

drawIcons();
new DuelPage().start();
