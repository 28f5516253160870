// One message on the page: its text, its buttons, what is to be said about it, and the branches beside it.

import { copyButton, h, icon, iconButton } from "./dom.js";
import { renderMarkdown } from "./markdown.js";
import { RatingControl } from "./rating.js";
import { explain } from "./toast.js";

const REASONS = { cancelled: "Stopped", length: "Cut at the limit of tokens", error: "The reply broke off" };

// page: what the buttons call (regenerate, resend, branch).
export class MessageView {
  constructor(message, page) {
    this.message = message;
    this.page = page;
    this.mine = message.role === "user";
    this.body = h("div", { class: this.mine ? "bubble" : "markdown" });
    this.notes = h("div", { class: "notes" });
    this.actions = h("div", { class: "actions" });
    this.branches = h("div", { class: "branches", role: "group", "aria-label": "Versions of this message", hidden: true });
    this.element = h("article", { class: `message ${this.mine ? "mine" : "reply"}`, "data-id": message.id },
      h("h2", { class: "sr-only" }, this.mine ? "You" : "Reply"), this.body, this.notes, h("div", { class: "message-foot" }, this.branches, this.actions));
    this.draw();
  }

  // The whole message anew: when it is complete, or was just made.
  draw({ whole = true } = {}) {
    this.text({ whole });
    this.element.classList.toggle("pending", Boolean(this.message.pending));
    this.element.classList.toggle("blocked", Boolean(this.message.blocked));
    this.element.setAttribute("aria-busy", String(Boolean(this.message.pending)));
    this.drawNotes();
    this.drawActions();
  }

  text({ whole = false } = {}) {
    if (this.mine) this.body.textContent = this.message.content;
    else renderMarkdown(this.body, this.message.content, { whole });
  }

  drawNotes() {
    const { finish_reason: reason, blocked, pending, problem, settings = {} } = this.message;
    const dropped = this.message.dropped_turns ?? settings.dropped_turns; // fresh, or as it was stored
    const notice = this.message.notice ?? (settings.timed_out ? "The reply took too long and was stopped." : null);
    const notes = [];
    if (problem) notes.push(["warning", `${problem.message} ${explain(problem)}`]);
    if (notice) notes.push(["warning", notice]);
    if (!this.mine && !pending) {
      if (blocked) notes.push(["info", "Held back by the guardrails; nothing is learned from it"]);
      else if (REASONS[reason] && !problem && !notice) notes.push(["info", REASONS[reason]]);
      if (dropped > 0) notes.push(["info", dropped === 1 ? "The oldest turn was left out: the conversation no longer fits" : `The oldest ${dropped} turns were left out: the conversation no longer fits`]);
      if (!this.message.content && !problem) notes.push(["info", "An empty reply"]);
    }
    this.notes.replaceChildren(...notes.map(([name, text]) => h("p", { class: `note ${name}` }, icon(name), h("span", {}, text))));
  }

  drawActions() {
    const { pending, problem, local } = this.message;
    this.rating?.element.remove();
    this.rating = null;
    const buttons = [];
    if (!pending && this.message.content) buttons.push(copyButton("Copy the message", () => this.message.content));
    if (this.mine && !pending && !local) buttons.push(iconButton("edit", "Edit and send again", () => this.edit()));
    if (this.mine && this.unanswered) buttons.push(iconButton("refresh", "Get a reply", () => this.page.answer(this.message)));
    if (!this.mine && !pending) {
      buttons.push(iconButton("refresh", problem ? "Try again" : "Another reply", () => this.page.regenerate(this.message)));
      if (!problem && !local && !this.message.blocked) {
        this.rating = new RatingControl(this.message, this.page.rating(this.message));
        buttons.push(...this.rating.buttons, this.details());
        this.element.append(this.rating.element);
      }
    }
    this.actions.replaceChildren(...buttons);
  }

  details() {
    const { version, settings = {}, seconds, completion_tokens: tokens, prompt_tokens: prompt } = this.message;
    const lines = [
      ["Version", version], ["Temperature", settings.temperature], ["Top-p", settings.top_p], ["Seed", settings.seed],
      ["Tokens", tokens === undefined || tokens === null ? null : `${tokens} of reply, ${prompt} of prompt`],
      ["Time", typeof seconds === "number" ? `${seconds.toFixed(2)} s` : null],
    ].filter(([, value]) => value !== null && value !== undefined);
    const list = h("dl", { class: "details", hidden: true }, lines.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
    this.notes.append(list);
    const button = iconButton("info", "How it was made", () => {
      list.hidden = !list.hidden;
      button.setAttribute("aria-expanded", String(!list.hidden));
    }, { "aria-expanded": "false" });
    return button;
  }

  // A message whose reply never came (the page was closed, the server went down) can still get one.
  drawUnanswered(unanswered) {
    if (this.mine && this.unanswered !== unanswered) {
      this.unanswered = unanswered;
      this.drawActions();
    }
  }

  drawBranches(siblings) {
    const at = siblings.indexOf(this.message);
    this.branches.hidden = siblings.length < 2;
    const step = (by, name, label) => iconButton(name, label, () => this.step(by, siblings), { "data-step": by, "aria-disabled": String(!siblings[at + by]) });
    this.branches.replaceChildren(step(-1, "left", "Previous version"), h("span", {}, `${at + 1}/${siblings.length}`), step(1, "right", "Next version"));
  }

  step(by, siblings) {
    const next = siblings[siblings.indexOf(this.message) + by];
    if (next) this.page.branch(next, by);
  }

  focusStep(by) {
    this.branches.querySelector(`[data-step="${by}"]`)?.focus();
  }

  // A text field in place of the message; sending makes a sibling, so the old text stays as another version.
  edit() {
    if (this.editor) return this.editor.querySelector("textarea").focus();
    const area = Object.assign(h("textarea", { rows: 2, "aria-label": "Edit your message" }), { value: this.message.content });
    const close = () => {
      this.editor.remove();
      this.editor = null;
      this.body.hidden = false;
      this.actions.hidden = false;
      this.actions.querySelector("[aria-label^=Edit]")?.focus();
    };
    this.editor = h("form", { class: "editor" }, area, h("div", { class: "dialog-foot" },
      h("button", { type: "button", class: "button", onclick: close }, "Cancel"), h("button", { type: "submit", class: "button primary" }, "Send")));
    this.editor.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = area.value.trim();
      if (!text || this.page.busy()) return;
      close();
      this.page.resend(this.message, text);
    });
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.editor.requestSubmit();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
    });
    this.body.hidden = true;
    this.actions.hidden = true;
    this.body.after(this.editor);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}
