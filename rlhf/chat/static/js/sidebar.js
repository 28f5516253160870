// The list of conversations: open, rename, delete with a way back. One stop of the tab key; arrows move through it.

import { byId, h, iconButton } from "./dom.js";
import { api } from "./api.js";
import { showError, toast } from "./toast.js";

const DAY_S = 86400;
const AGES = [[0, "Today"], [1, "Yesterday"], [7, "Last seven days"], [30, "Last thirty days"], [Infinity, "Older"]];

function age(updated) {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  const days = Math.max(0, Math.ceil((midnight - updated) / DAY_S));
  return AGES.find(([most]) => days <= most)[1];
}

export class Sidebar {
  // page: current() → id, closed(id) when a conversation was deleted, renamed(id, title)
  constructor(page) {
    this.page = page;
    this.list = [];
    this.leaving = new Map(); // deleted here, not yet on the server → its notice
    this.nav = byId("conversations");
    this.nav.addEventListener("keydown", (event) => this.key(event));
    addEventListener("pagehide", () => { for (const id of this.leaving.keys()) this.hide(id, { keepalive: true }); });
  }

  async load() {
    try {
      this.list = (await api("GET", "/api/conversations")).conversations;
    } catch (error) {
      showError(error);
    }
    this.show();
  }

  shown() {
    return this.list.filter(({ id }) => !this.leaving.has(id));
  }

  title(id) {
    return this.list.find((one) => one.id === id)?.title || "New chat";
  }

  show() {
    const groups = Map.groupBy ? Map.groupBy(this.shown(), ({ updated }) => age(updated)) : new Map([["Conversations", this.shown()]]);
    this.nav.replaceChildren(...[...groups].flatMap(([name, list]) => [
      h("h2", { class: "group" }, name), h("ul", {}, list.map((conversation) => this.item(conversation)))]));
    if (!groups.size) this.nav.append(h("p", { class: "hint" }, "What you talk about is kept here."));
    this.rove(this.nav.querySelector("[aria-current]") ?? this.nav.querySelector("a"));
  }

  item({ id, title }) {
    const current = this.page.current() === id;
    const name = title || "New chat";
    return h("li", { "data-id": id, class: current ? "current" : "" },
      h("a", { href: `#${id}`, "aria-current": current ? "page" : null, title: name, ondblclick: () => this.rename(id) }, name),
      h("span", { class: "item-actions" },
        iconButton("edit", `Rename “${name}”`, () => this.rename(id), { title: "Rename (F2)" }),
        iconButton("trash", `Delete “${name}”`, () => this.remove(id), { title: "Delete (Del)" })));
  }

  rove(link) {
    for (const item of this.nav.querySelectorAll("li")) {
      const here = link && item.contains(link);
      item.querySelectorAll("a, button").forEach((element) => { element.tabIndex = here ? 0 : -1; });
    }
  }

  key(event) {
    const item = event.target.closest("li");
    if (!item || event.target.matches("input")) return;
    const links = [...this.nav.querySelectorAll("li > a")];
    const at = links.indexOf(item.querySelector("a"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      const link = links[Math.min(Math.max(to, 0), links.length - 1)];
      this.rove(link);
      link.focus();
    } else if (event.key === "F2") this.rename(item.dataset.id);
    else if (event.key === "Delete") this.remove(item.dataset.id);
  }

  find(id) {
    return [...this.nav.querySelectorAll("li")].find((item) => item.dataset.id === id);
  }

  rename(id) {
    const item = this.find(id);
    const input = h("input", { class: "rename", "aria-label": "New name", maxlength: 200 });
    input.value = this.title(id);
    let open = true;
    const close = async (save) => {
      if (!open) return;
      open = false;
      const title = input.value.trim();
      if (save && title && title !== this.title(id)) await this.retitle(id, title);
      this.show();
      this.find(id)?.querySelector("a").focus();
    };
    input.addEventListener("blur", () => close(true));
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") close(true);
      else if (event.key === "Escape") close(false);
    });
    item.replaceChildren(input);
    input.focus();
    input.select();
  }

  async retitle(id, title) {
    try {
      await api("PATCH", `/api/conversations/${encodeURIComponent(id)}`, { title });
      this.list.find((one) => one.id === id).title = title;
      this.page.renamed(id, title);
    } catch (error) {
      showError(error);
    }
  }

  // The server is told only once the way back is gone.
  remove(id) {
    const title = this.title(id);
    const links = [...this.nav.querySelectorAll("li")];
    const next = links[links.indexOf(this.find(id)) + 1] ?? links[links.indexOf(this.find(id)) - 1];
    const current = this.page.current() === id;
    this.leaving.set(id, toast(`Deleted “${title}”`, {
      action: "Undo",
      onaction: () => {
        this.leaving.delete(id);
        this.show();
        this.find(id)?.querySelector("a").focus();
        if (current) this.page.open(id);
      },
      onclose: () => this.hide(id),
    }));
    if (current) this.page.closed(id);
    this.show();
    (this.find(next?.dataset.id)?.querySelector("a") ?? byId("new-chat")).focus();
  }

  async hide(id, options) {
    try {
      await api("DELETE", `/api/conversations/${encodeURIComponent(id)}`, undefined, options);
      this.list = this.list.filter((one) => one.id !== id);
    } catch (error) {
      showError(error);
    }
    this.leaving.delete(id);
    this.show();
  }
}
