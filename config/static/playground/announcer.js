/** Tells a screen reader how the answer grows: whole sentences, and not every moment. */

import { setText } from "./elements.js";

const EVERY_MS = 5000;
const LONGEST = 400;

export class Announcer {
  #region;
  #answer = null;
  #said = 0;
  #next = 0;

  constructor(region) {
    this.#region = region;
  }

  say(text) {
    setText(this.#region, text);
  }

  /** The sentences that came since the last time, if that is long enough ago. */
  grow(answer) {
    if (answer !== this.#answer) {
      this.#answer = answer;
      this.#said = answer.content.length;
      this.#next = Date.now() + EVERY_MS;
    }
    if (Date.now() < this.#next) return;
    const fresh = answer.content.slice(this.#said);
    const end = Math.max(...[". ", "? ", "! ", "\n"].map((mark) => fresh.lastIndexOf(mark)));
    if (end < 0) return;
    this.#said += end + 1;
    this.#next = Date.now() + EVERY_MS;
    this.say(fresh.slice(0, end + 1).trim().slice(-LONGEST));
  }
}
