/** The connection to one session: opens it, reads it, and resumes after the last event whenever it breaks. */

import { cancel, openChat, readEvents, Refusal } from "./api.js";
import { config } from "./page.js";
import { Broken, eventsOf } from "./sse.js";

const CUT_SECONDS = 4;
const MAX_WAIT_SECONDS = 8;
/** Refusals of a server that may say yes in a moment; other refusals are final. */
const PASSING = new Set([429, 500, 502, 503, 504]);
const MAX_REFUSALS = 5;

/**
 * `lastIndex` is the last event that the caller has, -1 for none; `makeRequest` gives the request's body when it must be
 * sent. `onEvent(index, data)` gets every event once, in order. `onState(state)` says how the line is:
 * `{is: "connecting" | "open" | "cut" | "waiting", until?, message?}`; `onResume(kind, last, next)` that it went on.
 */
export class Line {
  #sessionId; #lastIndex; #makeRequest; #onEvent; #onState; #onResume;
  #attempt = null;
  #wake = null;
  #cause;
  #isCut = false;
  #isLeft = false;
  #isStopping = false;

  constructor({ sessionId, lastIndex, makeRequest, onEvent, onState, onResume }) {
    this.#sessionId = sessionId;
    this.#lastIndex = lastIndex;
    this.#makeRequest = makeRequest;
    this.#onEvent = onEvent;
    this.#onState = onState;
    this.#onResume = onResume;
    this.#cause = lastIndex < 0 ? null : "reload";
  }

  /** Until the answer has ended (true) or the line is left (false). Throws `Refusal` for what will not become better by waiting. */
  async follow() {
    let failures = 0;
    let refusals = 0;
    while (!this.#isLeft) {
      let wait = null;
      let message = "";
      try {
        if (this.#isStopping) await this.#cancel();
        const before = this.#lastIndex;
        if (await this.#readOnce()) return true;
        if (this.#lastIndex > before) failures = refusals = 0;
      } catch (problem) {
        if (this.#isLeft) return false;
        if (problem instanceof Refusal) {
          // An answer that has begun is there, however long the server cannot give it.
          if (!PASSING.has(problem.status) || (this.#lastIndex < 0 && ++refusals > MAX_REFUSALS)) throw problem;
          message = problem.message;
          wait = problem.retryAfter;
        } else if (!(problem instanceof Broken)) throw problem;
      }
      if (this.#isCut) {
        this.#cause = "cut";
        this.#isCut = false;
        await this.#rest("cut", CUT_SECONDS);
      } else if (!this.#isLeft) {
        this.#cause ??= "lost";
        await this.#rest("waiting", wait ?? Math.min(0.5 * 2 ** failures++, MAX_WAIT_SECONDS), message);
      }
    }
    return false;
  }

  /** Break the connection, as a network would. The line goes on by itself in a moment. */
  cut() {
    this.#isCut = true;
    this.#attempt?.abort();
  }

  /** Do not wait any longer. */
  hurry() {
    this.#wake?.();
  }

  /** Ask the server to end the answer; the stream then says so. Asked again for as long as the server is away. */
  stop() {
    this.#isStopping = true;
    this.#cancel().catch(() => this.#attempt?.abort());
    this.hurry();
  }

  /** Stop listening. The session goes on. */
  leave() {
    this.#isLeft = true;
    this.#attempt?.abort();
    this.hurry();
  }

  async #cancel() {
    await cancel(this.#sessionId);
    this.#isStopping = false;
  }

  /** One connection, to its end. True when the answer has ended with it. */
  async #readOnce() {
    this.#attempt = new AbortController();
    const { signal } = this.#attempt;
    // A network that is gone without a word sends no comments either.
    const watch = new Silence(this.#attempt, config.keepaliveSeconds * 3);
    // The browser knows of some at once. Where the server can be reached all the same, the next try does.
    addEventListener("offline", () => this.#attempt?.abort(), { signal });
    this.#onState({ is: "connecting" });
    try {
      const response = this.#lastIndex < 0 ? await this.#open(signal) : await this.#goOn(signal, watch);
      if (response.status === 204) return true;
      watch.heard();
      this.#onState({ is: "open" });
      for await (const { id, data } of eventsOf(response, () => watch.heard())) {
        const index = Number(id.slice(id.lastIndexOf(":") + 1));
        if (index <= this.#lastIndex) continue;
        if (this.#cause) this.#onResume(this.#cause, this.#lastIndex, index);
        this.#cause = null;
        this.#lastIndex = index;
        if (this.#onEvent(index, data)) return true;
      }
      return false;
    } finally {
      watch.end();
      this.#attempt.abort();
      this.#attempt = null;
    }
  }

  async #open(signal) {
    try {
      return await openChat(await this.#makeRequest(), this.#sessionId, signal);
    } catch (problem) {
      // The id is this answer's alone: the session is ours, and its request was written down otherwise.
      if (problem.code === "session_conflict") return readEvents(this.#sessionId, -1, signal);
      throw problem;
    }
  }

  #goOn(signal, watch) {
    watch.heard();
    return readEvents(this.#sessionId, this.#lastIndex, signal);
  }

  async #rest(is, seconds, message = "") {
    this.#onState({ is, until: Date.now() + seconds * 1000, message });
    await new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, seconds * 1000);
      // The network is back: at once.
      if (is === "waiting") window.addEventListener("online", resolve, { once: true });
    });
    this.#wake = null;
  }
}

/** Aborts a connection on which nothing comes. A timer that slept with the computer fires as it wakes up. */
class Silence {
  #seconds; #attempt; #timer;

  constructor(attempt, seconds) {
    this.#attempt = attempt;
    this.#seconds = seconds;
  }

  heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#attempt.abort(), this.#seconds * 1000);
  }

  end() {
    clearTimeout(this.#timer);
  }
}
