// Where a message is written: it grows with the text, Enter sends, and what could not be sent comes back.

import { byId } from "./dom.js";

export class Composer {
  constructor(page) {
    this.page = page;
    this.input = byId("input");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.input.addEventListener("input", () => this.show());
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    });
    byId("stop").addEventListener("click", () => {
      page.stop();
      this.focus();
    });
    byId("open-settings").addEventListener("click", () => this.settings());
    byId("composer").addEventListener("click", (event) => { if (event.target === event.currentTarget) this.focus(); });
    if (!matchMedia("(max-width: 760px)").matches) this.focus();
  }

  send() {
    const text = this.input.value.trim();
    if (!text || this.tooLong() || this.page.busy()) return;
    this.input.value = "";
    this.page.send(text);
    this.show();
  }

  restore(text) {
    if (!this.input.value) this.input.value = text;
    this.show();
    this.focus();
  }

  tooLong() {
    const most = this.page.settings.limits.max_characters;
    return Boolean(most) && this.input.value.length > most;
  }

  show() {
    const busy = Boolean(this.page.talk?.turn);
    byId("stop").hidden = !busy;
    byId("send").hidden = busy;
    byId("send").setAttribute("aria-disabled", String(!this.input.value.trim() || this.tooLong()));
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, innerHeight * 0.4)}px`;
    const most = this.page.settings.limits.max_characters;
    const near = most && this.input.value.length > most * 0.8;
    byId("count").textContent = near ? `${this.input.value.length} of ${most} characters` : "";
    byId("count").classList.toggle("over", this.tooLong());
    const changes = this.page.settings.changes();
    byId("settings-note").textContent = changes ? `${changes} changed` : "";
  }

  settings() {
    this.page.settings.open(() => this.show());
  }

  focus() {
    this.input.focus();
  }
}
