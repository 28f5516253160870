// The list beside the conversation: a column on a wide screen, a drawer over the page on a narrow one.

import { byId, recall, remember } from "./dom.js";

const NARROW = matchMedia("(max-width: 760px)");

export class Drawer {
  constructor() {
    this.root = document.documentElement;
    byId("open-sidebar").addEventListener("click", () => this.toggle());
    byId("close-sidebar").addEventListener("click", () => this.close());
    byId("backdrop").addEventListener("click", () => this.close());
    NARROW.addEventListener("change", () => this.set(this.wanted()));
    this.set(this.wanted());
  }

  wanted() {
    return !NARROW.matches && recall("sidebar", true);
  }

  phone() {
    return NARROW.matches;
  }

  open() {
    return this.root.classList.contains("sidebar-open");
  }

  toggle() {
    const open = !this.open();
    if (!this.phone()) remember("sidebar", open);
    this.set(open);
    if (open) (byId("conversations").querySelector("a[tabindex='0']") ?? byId("new-chat")).focus();
    else byId("open-sidebar").focus();
  }

  close() {
    this.set(false);
    byId("open-sidebar").focus();
  }

  closeOnPhone() {
    if (this.phone()) this.set(false);
  }

  // inert: what is not seen can be reached neither by key nor by a screen reader.
  set(open) {
    this.root.classList.toggle("sidebar-open", open);
    byId("sidebar").inert = !open;
    byId("main").inert = open && this.phone();
    byId("open-sidebar").setAttribute("aria-expanded", String(open));
  }
}

// Where the keyboard of a phone covers the page instead of resizing it, the page takes the height that is left.
if (window.visualViewport) {
  const fit = () => document.documentElement.style.setProperty("--visible", `${visualViewport.height}px`);
  visualViewport.addEventListener("resize", fit);
  fit();
}
