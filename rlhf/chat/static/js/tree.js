// The messages of a conversation as a tree: editing and regenerating add branches, and nothing is lost.

export class Tree {
  constructor(messages = []) {
    this.all = [];
    this.byId = new Map();
    this.chosen = new Map(); // parent's id (or null) → id of the child that is shown
    messages.forEach((message) => this.add(message));
  }

  // The newest message decides which branch is shown.
  add(message) {
    this.all.push(message);
    this.byId.set(message.id, message);
    this.show(message);
  }

  // What was shown before the server had a name for it gets the server's.
  rename(message, id) {
    const old = message.id;
    if (old === id) return;
    const child = this.chosen.get(old);
    this.byId.delete(old);
    this.chosen.delete(old);
    this.children(old).forEach((other) => { other.parent = id; });
    message.id = id;
    this.byId.set(id, message);
    if (child) this.chosen.set(id, child);
    if (this.chosen.get(message.parent ?? null) === old) this.chosen.set(message.parent ?? null, id);
  }

  remove(message) {
    this.all = this.all.filter((other) => other !== message);
    this.byId.delete(message.id);
    const rest = this.children(message.parent);
    if (rest.length) this.chosen.set(message.parent ?? null, rest[rest.length - 1].id);
    else this.chosen.delete(message.parent ?? null);
  }

  children(id) {
    return this.all.filter((message) => (message.parent ?? null) === (id ?? null));
  }

  siblings(message) {
    return this.children(message.parent);
  }

  show(message) {
    for (let at = message; at; at = this.byId.get(at.parent)) this.chosen.set(at.parent ?? null, at.id);
  }

  path() {
    const found = [];
    for (let at = this.byId.get(this.chosen.get(null)); at; at = this.byId.get(this.chosen.get(at.id))) found.push(at);
    return found;
  }

  leaf() {
    return this.path().at(-1) ?? null;
  }
}
