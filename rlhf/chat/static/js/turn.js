// One reply on its way: what the events of the stream do to the tree of messages, and how it is stopped.

import { api, events, newKey } from "./api.js";
import { waitingToast } from "./toast.js";

const PATIENCE_MS = 3000; // after which a reply that was stopped is cut off here, whatever the server does

let local = 0;

function draft(role, parent, content) {
  return { id: `local-${++local}`, parent, role, content, local: true, pending: role === "assistant" };
}

export class Turn {
  // page: changed(turn, message, {whole}), renamed(old, id)
  constructor(talk, page) {
    this.talk = talk;
    this.page = page;
    this.abort = new AbortController();
    this.started = false;
  }

  say(parent, content, settings) {
    this.own = draft("user", parent?.id ?? null, content);
    this.talk.tree.add(this.own);
    this.reply = draft("assistant", this.own.id, "");
    this.talk.tree.add(this.reply);
    const path = () => `/api/conversations/${encodeURIComponent(this.talk.id)}/messages`;
    return this.run(path, { parent: parent?.id ?? null, content, settings });
  }

  regenerate(asked, settings) {
    this.reply = draft("assistant", asked.id, "");
    this.talk.tree.add(this.reply);
    return this.run(() => `/api/messages/${encodeURIComponent(asked.id)}/regenerate`, { settings });
  }

  async run(path, body) {
    try {
      await this.talk.ready?.();
      for await (const { event, data } of events(path(), body, { key: newKey(), signal: this.abort.signal, waiting: waitingToast() })) {
        this.take(event, data);
      }
    } catch (error) {
      this.fail(error);
      throw error;
    } finally {
      clearTimeout(this.patience);
    }
  }

  take(event, data) {
    if (event === "start") {
      this.started = true;
      this.id = data.turn;
      if (this.own) this.settle(this.own, data.user_message);
      this.name(this.reply, data.reply_id);
      if (this.stopping) this.tell();
    } else if (event === "delta") this.reply.content += data.text;
    else if (event === "replace") this.reply.content = data.text;
    else if (event === "done") {
      this.settle(this.reply, { ...data.message, dropped_turns: data.dropped_turns, notice: data.notice });
      this.reply.pending = false;
    }
    if (event === "start" && this.own) this.page.changed(this, this.own, { whole: true });
    this.page.changed(this, this.reply, { whole: event === "start" || event === "done" });
  }

  name(message, id) {
    const old = message.id;
    this.talk.tree.rename(message, id);
    this.page.renamed(old, id);
  }

  settle(message, stored) {
    this.name(message, stored.id);
    Object.assign(message, stored, { local: false });
  }

  // Before the start nothing is stored, and nothing stays; after it, what there is stays, and says what happened.
  fail(error) {
    this.reply.pending = false;
    if (!this.started) {
      this.talk.tree.remove(this.reply);
      if (this.own) this.talk.tree.remove(this.own);
      return;
    }
    if (error.name === "AbortError") this.reply.finish_reason = "cancelled";
    else this.reply.problem = error;
    this.page.changed(this, this.reply, { whole: true });
  }

  stop() {
    if (this.stopping) return;
    this.stopping = true;
    this.patience = setTimeout(() => this.abort.abort(), PATIENCE_MS);
    if (this.started) this.tell();
    else this.abort.abort();
  }

  async tell() {
    await api("POST", `/api/turns/${encodeURIComponent(this.id)}/stop`, {}).catch(() => this.abort.abort());
  }
}
