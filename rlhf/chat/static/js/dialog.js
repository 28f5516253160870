// Dialogs: the browser's own <dialog>, which traps the focus, closes on Escape and gives the focus back.

import { h, iconButton } from "./dom.js";

export function openDialog(title, ...content) {
  const dialog = h("dialog", { class: "dialog", "aria-label": title },
    h("div", { class: "dialog-head" }, h("h2", {}, title), iconButton("close", "Close", () => dialog.close())),
    ...content);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
