/** The chats of this browser: what is in them, and their answers as they come in. */

import { end, fail, newAnswer, randomId, takeEvent } from "./answer.js";
import { Line } from "./line.js";
import { config } from "./page.js";
import { requestWithFiles } from "./request.js";

const SAVE_MS = 200;
/** A browser opens six connections to a server; some must be left for new requests. */
const MAX_LINES = 4;
const LATE_MS = 300;

/**
 * `changed(what, answer)` is called after every change: `"chats"`, `"turns"` (of the open chat), `"answer"`, `"line"`.
 * `refused(refusal)` is called when the server wants a key; the answer waits until `goOn`.
 */
export class Chats {
  list = [];
  open = null;
  turns = [];
  // how the line of a turn's answer is, by the turn's id
  lines = new Map();
  #wanted = null;
  #running = new Map();
  #waiting = [];
  #store; #changed; #refused;

  constructor(store, { changed, refused }) {
    this.#store = store;
    this.#changed = changed;
    this.#refused = refused;
  }

  /** The list, newest first. */
  async load() {
    this.list = (await this.#store.all("chats")).sort((a, b) => b.changedAt - a.changedAt);
    this.#changed("chats");
  }

  /** Every answer that has not ended goes on. */
  async goOn() {
    const unfinished = (await this.#store.all("answers")).filter((answer) => answer.state === "running");
    for (const stored of unfinished) {
      const shown = this.turns.find((turn) => turn.id === stored.turn);
      const isKnown = this.#running.has(stored.turn) || this.#waiting.some((answer) => answer.turn === stored.turn);
      if (!isKnown) this.#follow(shown?.answer ?? stored, shown?.chat);
    }
  }

  async select(id) {
    const chat = this.list.find((one) => one.id === id) ?? null;
    this.#wanted = chat;
    const turns = chat ? await this.#turnsOf(chat.id) : [];
    // The user has chosen another one in the meantime.
    if (this.#wanted !== chat) return;
    this.open = chat;
    this.turns = turns;
    this.#changed("chats");
    this.#changed("turns");
    const running = this.runningTurn;
    if (running && !this.#running.has(running.id)) this.#hearShown(running);
  }

  async #turnsOf(chatId) {
    const turns = (await this.#store.turnsOf(chatId)).sort((a, b) => a.position - b.position);
    for (const turn of turns) {
      turn.answer = this.#running.get(turn.id)?.answer ?? (await this.#store.get("answers", turn.id)) ?? null;
    }
    return turns;
  }

  get runningTurn() {
    return this.turns.find((turn) => turn.answer?.state === "running") ?? null;
  }

  /** A new turn of the open chat, or of a new one, and its answer begins. */
  async ask({ text, files, title, parameters }) {
    if (!this.open) {
      this.open = { id: randomId(), title, parameters, createdAt: Date.now(), changedAt: Date.now() };
      this.list.unshift(this.open);
      this.turns = [];
    }
    const turn = { id: randomId(), chat: this.open.id, position: this.turns.length, text, files };
    await this.#store.put("turns", turn);
    this.turns.push(turn);
    await this.#begin(turn, parameters);
  }

  /** The turn once more, with another text where one is given. What came after it is removed. */
  async askAgain(turn, { text = turn.text, parameters }) {
    for (const later of this.turns.splice(this.turns.indexOf(turn) + 1)) await this.#removeTurn(later);
    turn.text = text;
    await this.#store.put("turns", withoutAnswer(turn));
    await this.#begin(turn, parameters);
  }

  async #begin(turn, parameters) {
    turn.answer = newAnswer(turn.id, parameters);
    this.open.changedAt = Date.now();
    // Before anything is sent: a page that is reloaded now finds the answer by this id.
    await this.#store.put("answers", turn.answer);
    await this.#store.put("chats", this.open);
    this.list.sort((a, b) => b.changedAt - a.changedAt);
    this.#changed("chats");
    this.#changed("turns");
    this.#follow(turn.answer, turn.chat);
  }

  async rename(title) {
    this.open.title = title;
    await this.#store.put("chats", this.open);
    this.#changed("chats");
  }

  async keepParameters(parameters) {
    if (!this.open) return;
    this.open.parameters = parameters;
    await this.#store.put("chats", this.open);
  }

  /** Removes the open chat; a running answer of it is cancelled. */
  async removeOpen() {
    const removed = this.open;
    for (const turn of this.turns) await this.#removeTurn(turn);
    await this.#store.remove("chats", removed.id);
    this.list = this.list.filter((chat) => chat !== removed);
    await this.select(null);
  }

  async #removeTurn(turn) {
    const run = this.#running.get(turn.id);
    if (run) {
      run.isRemoved = true;
      run.line.stop();
    }
    await this.#store.remove("answers", turn.id);
    await this.#store.remove("turns", turn.id);
  }

  cut(turn) {
    this.#running.get(turn.id)?.line.cut();
  }

  hurry(turn) {
    this.#running.get(turn.id)?.line.hurry();
  }

  stop(turn) {
    const run = this.#running.get(turn.id);
    if (run) run.line.stop();
    else this.#ended(turn.answer, "cancelled");
  }

  /** What has come so far is kept; for a page that is left. */
  saveRunning() {
    for (const { answer, isRemoved } of this.#running.values()) if (!isRemoved) this.#store.put("answers", answer);
  }

  async #follow(answer, chatId) {
    if (this.#running.size >= MAX_LINES && chatId !== this.open?.id) {
      this.#waiting.push(answer);
      return;
    }
    this.#makeRoom();
    const run = { answer, isRemoved: false };
    let resumedAt = 0;
    let saving = null;
    const save = () => {
      saving = null;
      if (!run.isRemoved && this.#running.get(answer.turn) === run) this.#store.put("answers", answer);
    };
    run.line = new Line({
      sessionId: answer.sessionId,
      lastIndex: answer.lastIndex,
      makeRequest: () => this.#requestFor(answer),
      onEvent: (index, data) => {
        const isLast = takeEvent(answer, index, data);
        answer.lateEnd = Date.now() - resumedAt < LATE_MS;
        saving ??= setTimeout(save, SAVE_MS);
        this.#changed("answer", answer);
        return isLast;
      },
      onState: (state) => {
        this.lines.set(answer.turn, state);
        this.#changed("line", answer);
      },
      onResume: (cause, last, next) => {
        resumedAt = Date.now();
        answer.resumes.push({ cause, last, next });
        this.#changed("line", answer);
      },
    });
    this.#running.set(answer.turn, run);
    let wantsKey = null;
    let isLeft = false;
    try {
      isLeft = !(await run.line.follow());
      // Nothing follows the last event, and the end was not among those that were kept.
      if (!isLeft && answer.state === "running") end(answer, "done");
    } catch (problem) {
      if (problem.status === 401) wantsKey = problem;
      else if (problem.status === 404 && answer.lastIndex < 0) end(answer, "cancelled");
      else fail(answer, problem);
    }
    clearTimeout(saving);
    if (this.#running.get(answer.turn) !== run) return;
    save();
    this.#running.delete(answer.turn);
    this.lines.delete(answer.turn);
    this.#changed("answer", answer);
    if (isLeft) this.#waiting.push(answer);
    if (wantsKey) this.#refused(wantsKey);
    else this.#next();
  }

  /** There may be room for one that waits. */
  #next() {
    const shown = this.runningTurn;
    const isWaiting = shown && this.#waiting.some((answer) => answer.turn === shown.id);
    if (isWaiting) this.#hearShown(shown);
    else if (this.#waiting.length && this.#running.size < MAX_LINES) this.#follow(this.#waiting.shift());
  }

  /** What the user looks at does not wait for its turn. */
  #hearShown(turn) {
    this.#waiting = this.#waiting.filter((answer) => answer.turn !== turn.id);
    this.#follow(turn.answer, turn.chat);
  }

  /** The answer that is looked at is heard in place of another. */
  #makeRoom() {
    if (this.#running.size < MAX_LINES) return;
    const isShown = (run) => this.turns.some((turn) => turn.id === run.answer.turn);
    [...this.#running.values()].find((run) => !isShown(run))?.line.leave();
  }

  async #ended(answer, state) {
    end(answer, state);
    await this.#store.put("answers", answer);
    this.#changed("answer", answer);
  }

  async #requestFor(answer) {
    const asked = await this.#store.get("turns", answer.turn);
    if (!asked) throw new Error("another tab has removed it");
    const turns = (await this.#turnsOf(asked.chat)).filter((turn) => turn.position <= asked.position);
    return requestWithFiles(config.model, turns, answer.parameters);
  }
}

const withoutAnswer = ({ answer: _, ...turn }) => turn;
