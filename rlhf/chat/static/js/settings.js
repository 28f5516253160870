// How replies are sampled: what is changed here is kept in this browser; what is not is left to the server.

import { h, recall, remember } from "./dom.js";
import { openDialog } from "./dialog.js";

const FIELDS = {
  temperature: { label: "Temperature", hint: "0: always the likeliest word; higher: more variety", type: "range", min: 0, max: 2, step: 0.05 },
  top_p: { label: "Top-p", hint: "Sample from the likeliest words that together have this probability", type: "range", min: 0.05, max: 1, step: 0.05 },
  max_tokens: { label: "Longest reply, in tokens", hint: "The reply is cut there, and says so; message and reply together fit into the model's context", type: "number", min: 1, step: 1 },
  seed: { label: "Seed", hint: "Equal seeds give equal replies; empty: a new one each time", type: "number", min: 0, step: 1 },
};

export class Settings {
  constructor() {
    this.defaults = {};
    this.limits = {};
    this.chosen = recall("settings", {});
  }

  // What goes into a request.
  values() {
    return { ...this.chosen };
  }

  changes() {
    return Object.keys(this.chosen).length;
  }

  open(changed) {
    const fields = Object.entries(FIELDS).map(([name, field]) => this.field(name, field, changed));
    const reset = h("button", { type: "button", class: "button", onclick: () => {
      this.chosen = {};
      this.save(changed);
      fields.forEach((field) => field.show());
    } }, "Back to the defaults");
    const dialog = openDialog("Settings of the replies", h("div", { class: "settings" }, fields.map((field) => field.element)),
      h("div", { class: "dialog-foot" }, reset, h("button", { type: "button", class: "button primary", onclick: () => dialog.close() }, "Done")));
  }

  save(changed) {
    remember("settings", this.chosen);
    changed();
  }

  field(name, { label, hint, ...attributes }, changed) {
    const id = `setting-${name}`;
    const most = name === "max_tokens" && this.limits.context ? { max: this.limits.context } : {};
    const output = h("output", { for: id });
    const wrong = h("p", { class: "wrong", role: "alert" });
    const input = h("input", { id, "aria-describedby": `${id}-hint`, placeholder: this.defaults[name] ?? "random", ...attributes, ...most, oninput: () => {
      const fine = input.checkValidity();
      wrong.textContent = fine ? "" : `${input.validationMessage} Not changed.`;
      input.setAttribute("aria-invalid", String(!fine));
      if (!fine) return;
      if (input.value === "") delete this.chosen[name];
      else this.chosen[name] = Number(input.value);
      output.textContent = attributes.type === "range" ? input.value : "";
      this.save(changed);
    } });
    const show = () => {
      const value = this.chosen[name] ?? (attributes.type === "range" ? this.defaults[name] ?? 1 : "");
      input.value = value;
      wrong.textContent = "";
      input.removeAttribute("aria-invalid");
      output.textContent = attributes.type === "range" ? input.value : "";
    };
    show();
    const element = h("div", { class: "field" }, h("div", { class: "field-head" }, h("label", { for: id }, label), output), input,
      h("p", { class: "hint", id: `${id}-hint` }, hint), wrong);
    return { element, show };
  }
}
