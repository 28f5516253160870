// The chat page: the conversation that is open, what is typed, and the keys.

import { announce, byId, drawIcons, h, recall, remember, themeButton } from "./dom.js";
import { api } from "./api.js";
import { Composer } from "./composer.js";
import { Settings } from "./settings.js";
import { shortcuts } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { Drawer } from "./drawer.js";
import { Thread } from "./thread.js";
import { showError, takeAction } from "./toast.js";
import { Tree } from "./tree.js";
import { Turn } from "./turn.js";

const SUGGESTIONS = ["What is the capital of France?", "What is the opposite of early?", "Which of these is a fruit: hammer or apple?", "Explain the word baker."];

class ChatPage {
  constructor() {
    this.settings = new Settings();
    this.sidebar = new Sidebar(this);
    this.drawer = new Drawer();
    this.thread = new Thread(this);
    this.composer = new Composer(this);
    this.running = new Map(); // conversation's id → Talk whose reply is on its way
    this.talk = this.fresh();
    byId("suggestions").append(...SUGGESTIONS.map((text) => h("button", { type: "button", class: "suggestion", onclick: () => this.send(text) }, text)));
    for (const id of ["new-chat", "new-chat-phone"]) byId(id).addEventListener("click", () => this.begin());
    byId("conversations").addEventListener("click", (event) => { if (event.target.closest("a")) this.drawer.closeOnPhone(); });
    addEventListener("hashchange", () => this.open(decodeURIComponent(location.hash.slice(1))));
  }

  async start() {
    themeButton(byId("theme"));
    byId("help").addEventListener("click", shortcuts(this.keys(), [
      ["Enter", "Send"], ["Shift Enter", "New line"], ["F2", "Rename a conversation of the list"], ["Del", "Delete a conversation of the list"]]));
    const known = api("GET", "/api/me").then((me) => {
      this.settings.defaults = me.defaults ?? {};
      this.settings.limits = me.limits ?? {};
      this.composer.show();
    }, showError);
    await Promise.all([known, this.sidebar.load(), this.open(decodeURIComponent(location.hash.slice(1)))]);
    this.head(); // the list, which has the titles, may have come last
    document.body.dataset.ready = "true";
  }

  // ---- conversations

  fresh() {
    return { id: null, tree: new Tree(), ratings: {}, turn: null };
  }

  current() {
    return this.talk.id;
  }

  begin() {
    if (location.hash) history.pushState(null, "", location.pathname);
    this.show(this.fresh());
    this.drawer.closeOnPhone();
    this.composer.focus();
  }

  async open(id) {
    if (!id) return this.show(this.fresh());
    if (id === this.talk.id) return;
    if (location.hash.slice(1) !== id) history.pushState(null, "", `#${encodeURIComponent(id)}`);
    if (this.running.has(id)) return this.show(this.running.get(id));
    const asked = this.asked = Symbol(id);
    try {
      const { messages, ratings } = await api("GET", `/api/conversations/${encodeURIComponent(id)}`);
      if (asked !== this.asked) return; // another one was opened meanwhile
      const talk = { ...this.fresh(), id, tree: new Tree(messages), ratings };
      const branch = talk.tree.byId.get(recall(`branch ${id}`, null));
      if (branch) talk.tree.show(branch);
      this.show(talk);
      this.lookAgain(talk);
    } catch (error) {
      showError(error);
      if (asked === this.asked) this.begin();
    }
  }

  // A reply that was on its way when the page was left is stored a moment later.
  lookAgain(talk) {
    const last = talk.tree.leaf();
    if (last?.role !== "user" || Date.now() / 1000 - last.created > 10) return;
    setTimeout(async () => {
      const { messages } = await api("GET", `/api/conversations/${encodeURIComponent(talk.id)}`).catch(() => ({ messages: [] }));
      if (talk !== this.talk || talk.turn) return;
      messages.filter(({ id }) => !talk.tree.byId.has(id)).forEach((message) => talk.tree.add(message));
      this.refresh();
    }, 1000);
  }

  closed() {
    history.pushState(null, "", location.pathname);
    this.show(this.fresh());
  }

  renamed(id, title) {
    if (typeof id === "string" && title !== undefined && id === this.talk.id) this.head();
  }

  show(talk) {
    this.asked = null;
    this.talk = talk;
    this.thread.clear();
    this.refresh();
    this.sidebar.show();
    this.thread.toEnd();
  }

  refresh() {
    this.thread.show(this.talk.tree);
    byId("welcome").hidden = Boolean(this.talk.tree.path().length);
    this.composer.show();
    this.head();
  }

  head() {
    const title = this.talk.id ? this.sidebar.title(this.talk.id) : "New chat";
    byId("title").textContent = title;
    document.title = this.talk.id ? `${title} · Chat` : "Chat";
  }

  // ---- replies

  // A conversation is made on the server with its first message.
  ready(talk) {
    return async () => {
      if (talk.id) return;
      talk.id = (await api("POST", "/api/conversations", {})).id;
      this.running.set(talk.id, talk);
      if (talk === this.talk) history.replaceState(null, "", `#${encodeURIComponent(talk.id)}`);
    };
  }

  async send(text, parent = this.place()) {
    if (this.busy()) return;
    const turn = this.turn();
    await this.follow(turn, turn.say(parent, text, this.settings.values()), text);
  }

  // What a new message follows: the last reply. One that was never answered stays, as another version of the new one.
  place() {
    const last = this.talk.tree.leaf();
    return last?.role === "user" ? this.talk.tree.byId.get(last.parent) ?? null : last;
  }

  busy() {
    if (this.talk.turn) announce("A reply is on its way: stop it first");
    return Boolean(this.talk.turn);
  }

  resend(message, text) {
    return this.send(text, this.talk.tree.byId.get(message.parent) ?? null);
  }

  regenerate(reply) {
    return this.answer(this.talk.tree.byId.get(reply.parent));
  }

  answer(asked) {
    if (this.busy()) return;
    const turn = this.turn();
    return this.follow(turn, turn.regenerate(asked, this.settings.values()));
  }

  turn() {
    const talk = this.talk;
    talk.ready = this.ready(talk);
    talk.turn = new Turn(talk, { changed: (...what) => this.changed(...what), renamed: (old, id) => { if (talk === this.talk) this.thread.rename(old, id); } });
    if (talk.id) this.running.set(talk.id, talk);
    return talk.turn;
  }

  async follow(turn, running, text) {
    const { talk } = turn;
    this.refresh();
    this.thread.toEnd();
    announce("Generating the reply");
    try {
      await running;
    } catch (error) {
      if (!turn.started || error.name !== "AbortError") showError(error);
      if (!turn.started && text && talk === this.talk) this.composer.restore(text);
      announce(error.name === "AbortError" ? "Stopped" : `No reply: ${error.message}`);
    }
    talk.turn = null;
    this.running.delete(talk.id);
    if (turn.started) remember(`branch ${talk.id}`, null); // the newest is shown
    if (talk === this.talk) this.refresh();
    await this.named();
  }

  // A piece of a reply came: drawn once a frame.
  changed(turn, message, { whole }) {
    if (turn.talk !== this.talk) return;
    if (whole) {
      this.thread.view(message)?.draw();
      this.thread.show(this.talk.tree);
      if (message.role === "user") this.named();
      if (message.role === "assistant" && !message.pending && !message.problem) this.say(message);
      return;
    }
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.thread.view(message)?.text({ whole: !message.pending });
    });
  }

  // The first message has given the conversation its title.
  async named() {
    await this.sidebar.load();
    this.head();
  }

  say({ finish_reason: reason, content }) {
    announce(`${reason === "cancelled" ? "Stopped" : "Reply complete"}: ${content.slice(0, 500)}`);
  }

  stop() {
    this.talk.turn?.stop();
  }

  // ---- branches and ratings

  branch(message, by) {
    if (this.busy()) return;
    this.talk.tree.show(message);
    remember(`branch ${this.talk.id}`, this.talk.tree.leaf().id);
    this.refresh();
    this.thread.view(message).focusStep(by);
    announce(`Version ${this.talk.tree.siblings(message).indexOf(message) + 1} of ${this.talk.tree.siblings(message).length}`);
  }

  rating(message) {
    return this.talk.ratings[message.id];
  }

  // ---- keys

  last(role) {
    return this.thread.view(this.talk.tree.path().filter((message) => message.role === role).at(-1));
  }

  // Presses a button of the last message of that role, so that keys and clicks are one thing.
  press(role, label) {
    const button = [...(this.last(role)?.element.querySelectorAll("button") ?? [])].find((one) => one.getAttribute("aria-label")?.startsWith(label));
    button?.click();
  }

  escape() {
    if (this.drawer.open() && this.drawer.phone()) this.drawer.close();
    else if (this.talk.turn) this.stop();
    else if (document.activeElement === byId("input")) byId("main").focus();
  }

  keys() {
    return {
      n: ["New chat", () => this.begin()],
      "/": ["Write a message", () => this.composer.focus()],
      Escape: ["Stop the reply, or leave the text field", () => this.escape()],
      r: ["Another reply", () => this.press("assistant", "Another")],
      e: ["Edit your last message", () => this.press("user", "Edit")],
      c: ["Copy the last reply", () => this.press("assistant", "Copy the message")],
      g: ["The last reply is good", () => this.press("assistant", "Good")],
      x: ["The last reply is bad", () => this.press("assistant", "Bad")],
      d: ["Rate it in detail", () => this.press("assistant", "Rate")],
      "[": ["Its previous version", () => this.press("assistant", "Previous")],
      "]": ["Its next version", () => this.press("assistant", "Next")],
      b: ["The list of conversations", () => this.drawer.toggle()],
      s: ["Settings of the replies", () => this.composer.settings()],
      z: ["Take back what the newest notice says", () => takeAction()],
    };
  }
}

drawIcons();
new ChatPage().start();
