// The shown branch of a conversation as a column of messages that follows what is being written.

import { byId } from "./dom.js";
import { MessageView } from "./message.js";

const NEAR = 80; // pixels from the end within which the reader is following

export class Thread {
  constructor(page) {
    this.page = page;
    this.views = new Map();
    this.list = byId("thread");
    this.scroll = byId("scroll");
    this.following = true;
    this.scroll.addEventListener("scroll", () => this.look(), { passive: true });
    byId("jump").addEventListener("click", () => this.toEnd(true));
    new ResizeObserver(() => this.follow()).observe(this.list);
    new ResizeObserver(() => this.follow()).observe(this.scroll);
  }

  view(message) {
    return this.views.get(message?.id);
  }

  clear() {
    this.views.clear();
    this.list.replaceChildren();
  }

  // Puts the messages of the branch in order; those that were shown before keep their nodes.
  show(tree) {
    const path = tree.path().filter((message) => message.role !== "system");
    const wanted = path.map((message) => {
      if (!this.views.has(message.id)) this.views.set(message.id, new MessageView(message, this.page));
      const view = this.views.get(message.id);
      view.drawBranches(tree.siblings(message));
      view.drawUnanswered(!tree.children(message.id).length);
      return view.element;
    });
    for (const element of [...this.list.children]) if (!wanted.includes(element)) element.remove();
    wanted.forEach((element, i) => { if (this.list.children[i] !== element) this.list.insertBefore(element, this.list.children[i] ?? null); });
  }

  // A message that was shown under a name of its own has got the server's.
  rename(old, id) {
    const view = this.views.get(old);
    if (!view || old === id) return;
    this.views.delete(old);
    this.views.set(id, view);
    view.element.dataset.id = id;
  }

  look() {
    const rest = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight;
    this.following = rest < NEAR;
    byId("jump").hidden = this.following || !this.list.children.length;
  }

  follow() {
    if (this.following) this.toEnd();
    else this.look();
  }

  toEnd(smooth = false) {
    this.following = true;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.scroll.scrollTo({ top: this.scroll.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
  }
}
