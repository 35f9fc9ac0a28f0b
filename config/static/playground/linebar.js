/** Shows how the line to the running answer is. It stands still on the page while the answer grows. */

import { setText } from "./elements.js";
import { count, t } from "./page.js";

export class LineBar {
  #bar; #text; #cut; #hurry;
  #turn = null;

  /** `chats` has the turns and their lines. */
  constructor(bar, chats) {
    this.#bar = bar;
    this.#text = bar.querySelector(".line-text");
    this.#cut = bar.querySelector(".cut");
    this.#hurry = bar.querySelector(".hurry");
    this.#cut.addEventListener("click", () => chats.cut(this.#turn));
    this.#hurry.addEventListener("click", () => chats.hurry(this.#turn));
  }

  /** `turn` is the one whose answer runs, or null. */
  show(turn, line) {
    this.#turn = turn;
    this.#bar.hidden = !turn;
    if (!turn) return;
    const is = line?.is ?? "connecting";
    this.#bar.dataset.is = is;
    this.#cut.hidden = is === "cut" || is === "waiting";
    this.#hurry.hidden = !this.#cut.hidden;
    setText(this.#text, textOf(is, line, turn.answer.lastIndex));
  }
}

function textOf(is, line, lastIndex) {
  const last = lastIndex < 0 ? t("nothingYet") : t("lastSeen", { last: count(lastIndex) });
  const seconds = line?.until ? Math.max(0, Math.ceil((line.until - Date.now()) / 1000)) : 0;
  if (is === "open") return lastIndex < 0 ? t("connected") : t("event", { last: count(lastIndex) });
  if (is === "cut") return t("lineCut", { last, seconds });
  if (is === "waiting") return line.message ? t("refusedForNow", { message: line.message, seconds }) : t("lineLost", { last, seconds });
  return t("connecting", { last });
}
