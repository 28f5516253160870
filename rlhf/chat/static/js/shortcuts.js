// Single keys, outside of text fields; "?" lists them. They can be switched off, for people who speak to their computer.

import { h, recall, remember } from "./dom.js";
import { openDialog } from "./dialog.js";

const typing = (element) => element?.closest?.("input:not([type=radio], [type=checkbox], [type=range]), textarea, select, [contenteditable]");

// keys: {n: ["New chat", action], …}; `more`: rows that are listed but handled elsewhere.
export function shortcuts(keys, more = []) {
  const help = () => openDialog("Keyboard shortcuts", list(keys, more), toggle());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && keys.Escape) return void keys.Escape[1](event);
    if (typing(event.target) || !recall("shortcuts", true)) return;
    if (event.key === "?") {
      event.preventDefault();
      return help();
    }
    if (event.key === "Escape" || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key][1](event);
  });
  return help;
}

const NAMES = { Escape: "Esc", ArrowLeft: "←", ArrowRight: "→" };

function list(keys, more) {
  const rows = [...more, ...Object.entries(keys).filter(([, [words]]) => words).map(([key, [words]]) => [NAMES[key] ?? key, words]), ["?", "This list"]];
  return h("dl", { class: "shortcuts" }, rows.map(([key, words]) =>
    h("div", {}, h("dt", {}, words), h("dd", {}, key.split(" ").map((part) => h("kbd", {}, part))))));
}

function toggle() {
  const box = h("input", { type: "checkbox", checked: recall("shortcuts", true), onchange: () => remember("shortcuts", box.checked) });
  return h("label", { class: "check" }, box, "Single keys do something");
}
