// Elements, icons and the little that every page needs. Text goes in as text nodes only: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

// Strokes on a grid of 24 by 24.
const ICONS = {
  chat: ["M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v7a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 4v-4A2.5 2.5 0 0 1 4 13.5z"],
  duel: ["M4 5h6.5v14H4z", "M13.5 5H20v14h-6.5z", "M6.3 9h2", "M15.8 9h2", "M6.3 12h2", "M15.8 12h2"],
  monitor: ["M4 19V5", "M4 19h16", "M7.5 15l3.5-4.5 3 2.5 5-6.5"],
  plus: ["M12 5v14", "M5 12h14"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  sidebar: ["M4 5.5h16v13H4z", "M9.5 5.5v13"],
  sliders: ["M4 8h9", "M17 8h3", "M15 6v4", "M4 16h3", "M11 16h9", "M9 14v4"],
  send: ["M12 19V5", "M6 11l6-6 6 6"],
  stop: ["M8 8h8v8H8z"],
  copy: ["M9 9h10v11H9z", "M5 15V4h10"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  edit: ["M5 19l1-4L15.5 5.5l3 3L9 18z", "M13.5 7.5l3 3"],
  refresh: ["M19 12a7 7 0 1 1-2.2-5.1", "M19 4v4h-4"],
  good: ["M7 11v9H4v-9z", "M7 11l4-7c1.5 0 2.4 1 2.2 2.4L12.7 10h5.1c1.4 0 2.4 1.200 2.100 2.600l-1.100 5.400c-.2 1.200-1.200 2-2.400 2H7"],
  bad: ["M7 13V4H4v9z", "M7 13l4 7c1.5 0 2.4-1 2.200-2.400L12.700 14h5.100c1.400 0 2.400-1.200 2.100-2.600l-1.100-5.400C18.600 4.800 17.600 4 16.400 4H7"],
  star: ["M12 4.500l2.300 4.800 5.200.7-3.800 3.700.9 5.300-4.600-2.500L7.400 19l.9-5.300L4.500 10l5.200-.7z"],
  info: ["M12 11v5", "M12 8v.01", "M12 20.500a8.500 8.500 0 1 0 0-17 8.500 8.500 0 0 0 0 17z"],
  left: ["M14 6l-6 6 6 6"],
  right: ["M10 6l6 6-6 6"],
  down: ["M12 5v14", "M6 13l6 6 6-6"],
  trash: ["M5 7h14", "M9 7V4.500h6V7", "M7 7l1 13h8l1-13", "M10.500 11v5", "M13.500 11v5"],
  undo: ["M9 7L4.500 11.500 9 16", "M5 11.500h9a5 5 0 0 1 0 10h-2"],
  theme: ["M12 3.500a8.500 8.500 0 1 0 0 17z", "M12 3.500a8.500 8.500 0 0 1 0 17"],
  keyboard: ["M3.500 7h17v10h-17z", "M7 10.500v.01", "M10.300 10.500v.01", "M13.700 10.500v.01", "M17 10.500v.01", "M8 14h8"],
  warning: ["M12 5l8 14H4z", "M12 10.500v3.500", "M12 16.500v.01"],
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  for (const stroke of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", stroke);
    svg.append(path);
  }
  return svg;
}

// h("button", {class: "send", onclick: send, "aria-label": "Send"}, icon("send"), "text"): handlers only as functions.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) {
      if (typeof value !== "function") throw new TypeError(`${name} must be a function`);
      element.addEventListener(name.slice(2), value);
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function iconButton(name, label, onclick, attributes = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}

// The templates name their icons: <button data-icon="plus">.
export function drawIcons(root = document) {
  for (const element of root.querySelectorAll("[data-icon]")) {
    element.prepend(icon(element.dataset.icon));
    element.removeAttribute("data-icon");
  }
}

// One line for screen readers; emptied first, so that the same words are said again.
export function announce(text) {
  const live = byId("live");
  live.textContent = "";
  requestAnimationFrame(() => { live.textContent = text; });
}

export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "sr-only", "aria-hidden": "true" }); // pages from another machine, without TLS, have no clipboard
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser refused");
}

// A copy button that shows for a moment that it worked.
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    try {
      await copy(text());
    } catch {
      return announce("Could not copy");
    }
    button.replaceChildren(icon("check"));
    announce("Copied");
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, JSON.stringify(value));
  } catch { /* private windows: forgotten with the page */ }
}

export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

const THEMES = ["system", "light", "dark"];

export function themeButton(button, changed = () => {}) {
  const show = () => {
    const now = document.documentElement.dataset.theme ?? "system";
    button.setAttribute("aria-label", `Colours: ${now}`);
    button.title = `Colours: ${now}`;
    return now;
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(show()) + 1) % THEMES.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      if (next === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", next);
    } catch { /* for this page only */ }
    show();
    announce(`Colours: ${next}`);
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show();
}
