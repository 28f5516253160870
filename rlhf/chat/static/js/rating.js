// What somebody makes of a reply: a thumb at a click, criteria and a correction in a panel; saved, shown, changed, undone.

import { announce, h, icon, iconButton } from "./dom.js";
import { api } from "./api.js";
import { showError } from "./toast.js";

const CRITERIA = [["helpful", "Helpful"], ["relevant", "Relevant"], ["correct", "Correct"], ["safe", "Safe"]];
const WORDS = ["", "very poor", "poor", "fair", "good", "very good"];
const NOTHING = { thumb: null, helpful: null, relevant: null, correct: null, safe: null, correction: null, comment: null };

const empty = (rating) => Object.keys(NOTHING).every((field) => rating[field] === null || rating[field] === "");

export class RatingControl {
  constructor(message, rating) {
    this.message = message;
    this.rating = { ...NOTHING, ...rating };
    this.good = iconButton("good", "Good reply", () => this.thumb(1), { "aria-pressed": "false" });
    this.bad = iconButton("bad", "Bad reply", () => this.thumb(-1), { "aria-pressed": "false" });
    this.more = iconButton("star", "Rate in detail", () => this.toggle(), { "aria-expanded": "false" });
    this.buttons = [this.good, this.bad, this.more];
    this.saved = h("div", { class: "saved", hidden: true });
    this.panel = h("div", { class: "panel", hidden: true });
    this.element = h("div", { class: "rating" }, this.saved, this.panel);
    this.show();
  }

  show() {
    this.good.setAttribute("aria-pressed", String(this.rating.thumb === 1));
    this.bad.setAttribute("aria-pressed", String(this.rating.thumb === -1));
    const rated = CRITERIA.filter(([name]) => this.rating[name]);
    const parts = [
      this.rating.thumb === 1 ? "Good reply" : this.rating.thumb === -1 ? "Bad reply" : "",
      ...rated.map(([name, label]) => `${label.toLowerCase()} ${this.rating[name]}/5`),
      this.rating.correction ? "corrected" : "", this.rating.comment ? "with a comment" : "",
    ].filter(Boolean);
    this.more.classList.toggle("set", Boolean(rated.length || this.rating.correction || this.rating.comment));
    this.saved.hidden = !parts.length;
    this.saved.replaceChildren(icon("check"), h("span", {}, `Saved: ${parts.join(", ")}`),
      h("button", { type: "button", class: "text-button", onclick: () => this.save(NOTHING) }, "Undo"),
      h("button", { type: "button", class: "text-button", onclick: () => this.toggle(true) }, rated.length || this.rating.correction ? "Change" : "Say more"));
  }

  thumb(value) {
    return this.save({ ...this.rating, thumb: this.rating.thumb === value ? null : value });
  }

  // One request after the other, so that the last click is what stays.
  save(rating) {
    this.last = (this.last ?? Promise.resolve()).then(() => this.send(rating));
    return this.last;
  }

  async send(rating) {
    const path = `/api/messages/${encodeURIComponent(this.message.id)}/rating`;
    try {
      const answer = empty(rating) ? await api("DELETE", path) : await api("PUT", path, rating);
      this.rating = { ...NOTHING, ...answer?.rating };
    } catch (error) {
      showError(error);
      return false;
    }
    const focused = this.saved.contains(document.activeElement);
    this.show();
    if (focused) this.good.focus();
    if (!this.panel.hidden) this.draw();
    announce(empty(this.rating) ? "Rating removed" : "Rating saved");
    return true;
  }

  toggle(open = this.panel.hidden) {
    this.panel.hidden = !open;
    this.more.setAttribute("aria-expanded", String(open));
    if (!open) return;
    this.draw();
    this.panel.querySelector("input:checked, input, textarea").focus();
    this.panel.scrollIntoView({ block: "nearest" });
  }

  close() {
    this.toggle(false);
    this.more.focus();
  }

  draw() {
    const id = `rating-${this.message.id}`;
    const area = (name, label, hint) => h("div", { class: "field" }, h("label", { for: `${id}-${name}` }, label),
      Object.assign(h("textarea", { id: `${id}-${name}`, name, rows: 2, placeholder: hint }), { value: this.rating[name] ?? "" }));
    const form = h("form", { class: "rating-form", "aria-label": "Rate this reply", autocomplete: "off" },
      h("div", { class: "criteria" }, CRITERIA.map(([name, label]) => this.criterion(id, name, label))),
      area("correction", "What it should have said", "A better reply; the model learns from it"),
      area("comment", "Comment", "Why? For the people who read the ratings"),
      h("div", { class: "dialog-foot" },
        h("button", { type: "button", class: "button", onclick: () => this.close() }, "Cancel"),
        h("button", { type: "submit", class: "button primary" }, "Save")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(form);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        this.close();
      } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    this.panel.replaceChildren(form);
  }

  async submit(form) {
    const filled = new FormData(form);
    const rating = { thumb: this.rating.thumb };
    for (const [name] of CRITERIA) rating[name] = Number(filled.get(name)) || null;
    for (const name of ["correction", "comment"]) rating[name] = filled.get(name).trim() || null;
    if (await this.save(rating)) this.close();
  }

  // Radio buttons drawn as stars: one stop of the tab key, arrows choose.
  criterion(id, name, label) {
    const stars = [1, 2, 3, 4, 5].map((value) => h("label", { class: "star", title: WORDS[value] },
      h("input", { type: "radio", name, value, "aria-label": `${value}: ${WORDS[value]}`, checked: this.rating[name] === value }), icon("star")));
    const clear = h("button", { type: "button", class: "text-button", "aria-label": `No rating for ${label.toLowerCase()}`, onclick: () => {
      stars.forEach((star) => { star.firstChild.checked = false; });
    } }, "clear");
    return h("div", { class: "criterion", role: "group", "aria-labelledby": `${id}-${name}` },
      h("div", { class: "criterion-head" }, h("span", { id: `${id}-${name}` }, label), clear), h("div", { class: "stars" }, stars));
  }
}
