// Short notices at the edge of the page: what went wrong and what to do, or a way back for a few seconds.

import { byId, h, icon, iconButton } from "./dom.js";

const STAY_MS = 8000;

// toast("Deleted", {action: "Undo", onaction, onclose}): onclose is called once, unless the action was taken.
export function toast(text, { kind = "note", detail = "", action, onaction, onclose = () => {}, stay = STAY_MS } = {}) {
  let timer = null;
  let open = true;
  const close = (taken = false) => {
    if (!open) return;
    open = false;
    clearTimeout(timer);
    element.remove();
    if (taken) onaction();
    else onclose();
  };
  const element = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status" },
    kind === "error" ? icon("warning") : null,
    h("div", { class: "toast-text" }, h("p", {}, text), detail ? h("p", { class: "toast-detail" }, detail) : null),
    action ? h("button", { type: "button", class: "button small", onclick: () => close(true) }, action) : null,
    iconButton("close", "Dismiss", () => close()));
  const wait = () => { if (stay) timer = setTimeout(close, stay); };
  element.addEventListener("pointerenter", () => clearTimeout(timer));
  element.addEventListener("pointerleave", wait);
  element.addEventListener("focusin", () => clearTimeout(timer));
  element.addEventListener("focusout", wait);
  byId("toasts").append(element);
  wait();
  return { close, say: (words) => { element.querySelector("p").textContent = words; } };
}

function sentence(text) {
  return /[.!?]$/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

export function explain(error) {
  return [error.expected ? `Expected: ${error.expected}` : "", error.todo ?? ""].filter(Boolean).map(sentence).join(" ");
}

export function showError(error, options = {}) {
  if (error.name === "AbortError") return;
  if (!error.code) console.error(error);
  toast(error.message, { kind: "error", detail: explain(error), stay: 12000, ...options });
}

// What the newest notice offers, by key.
export function takeAction() {
  [...byId("toasts").querySelectorAll(".toast > .button")].at(-1)?.click();
}

// For `events(…, {waiting})`: says how long until the next try.
export function waitingToast() {
  let notice = null;
  return (seconds) => {
    notice?.close();
    notice = seconds ? toast(`The server is busy. Trying again in ${seconds} s.`, { stay: 0 }) : null;
  };
}
