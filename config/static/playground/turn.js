/** One turn on the page: what was asked, and the answer as it comes in. */

import { speedOf } from "./answer.js";
import { button, el, setText } from "./elements.js";
import { preview } from "./files.js";
import { showMarkdown } from "./markdown.js";
import { count, decimal, t } from "./page.js";

const FOLD_LENGTH = 500;
/** Drawing may take this part of the time. */
const DRAWING_SHARE = 10;

/** `actions`: drawn, regenerate, edit, showCode, copy; each is called with the turn (copy: a text and its button). */
export class TurnView {
  #turn; #actions; #asked; #answer; #parts = null;
  #isDrawing = false;
  #isStale = false;

  constructor(turn, actions) {
    this.#turn = turn;
    this.#actions = actions;
    this.#asked = el("section", { class: "asked", "aria-label": t("you") });
    this.#answer = el("section", { class: "answer", "aria-label": t("answer"), "data-session": turn.answer?.sessionId });
    this.node = el("li", { class: "turn" }, this.#asked, this.#answer);
    this.#showAsked();
  }

  get #files() {
    return this.#turn.files.length ? el("div", { class: "files" }, ...this.#turn.files.map(preview)) : null;
  }

  #showAsked() {
    const { text } = this.#turn;
    const said =
      text.length > FOLD_LENGTH
        ? el("details", {}, el("summary", {}, `${text.slice(0, 80).trimEnd()}…`), el("p", { class: "text" }, text))
        : el("p", { class: "text" }, text);
    const edit = button(t("edit"), () => this.#showEditor(), { class: "quiet edit" });
    this.#asked.replaceChildren(...[this.#files, text ? said : null, edit].filter(Boolean));
  }

  #showEditor() {
    const field = el("textarea", { "aria-label": t("yourMessage"), rows: "4" });
    field.value = this.#turn.text;
    const close = () => {
      this.#showAsked();
      this.#asked.querySelector(".edit").focus();
    };
    const form = el(
      "form",
      { class: "editor" },
      field,
      el("p", { class: "help" }, t("editRemoves")),
      el("div", { class: "row" }, el("button", { type: "submit", class: "primary" }, t("resend")), button(t("cancel"), close)),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim() || this.#turn.files.length) this.#actions.edit(this.#turn, field.value.trim());
    });
    form.addEventListener("keydown", (event) => event.key === "Escape" && close());
    this.#asked.replaceChildren(...[this.#files, form].filter(Boolean));
    field.focus();
  }

  /** Shows what the answer has become, as often as the page can draw it. */
  update() {
    this.#isStale = true;
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      const began = performance.now();
      this.#isStale = false;
      this.#draw();
      this.#actions.drawn();
      // Long answers are drawn less often, so that the page stays quick.
      setTimeout(() => {
        this.#isDrawing = false;
        if (this.#isStale) this.update();
      }, (performance.now() - began) * DRAWING_SHARE);
    });
  }

  #draw() {
    const { answer } = this.#turn;
    if (!answer) return;
    const parts = (this.#parts ??= this.#makeParts());
    parts.thoughts.hidden = !answer.reasoning;
    setText(parts.reasoning, answer.reasoning);
    setText(parts.thoughtsTitle, t(answer.content || answer.state !== "running" ? "thoughts" : "thinking"));
    showMarkdown(parts.body, answer.content || answer.refusal, (text) =>
      button(t("copy"), (event) => this.#actions.copy(text, event.currentTarget), { class: "quiet" }),
    );
    const isRunning = answer.state === "running";
    this.#answer.classList.toggle("running", isRunning);
    this.#answer.setAttribute("aria-busy", String(isRunning));
    parts.problem.hidden = answer.state !== "failed";
    if (answer.error) setText(parts.problemText, answer.error.message);
    parts.tools.hidden = isRunning;
    setText(parts.facts, factsOf(answer));
    for (const { cause, last, next } of answer.resumes.slice(parts.resumes.childElementCount)) {
      parts.resumes.append(el("li", {}, t(`resumed_${cause}`, { last: count(last), next: count(next) })));
    }
  }

  #makeParts() {
    const thoughtsTitle = el("summary");
    const reasoning = el("div", { class: "reasoning" });
    const thoughts = el("details", { class: "thoughts", hidden: true }, thoughtsTitle, reasoning);
    const body = el("div", { class: "markdown" });
    const problemText = el("span", { lang: "en" });
    const problem = el("p", { class: "problem error", role: "alert", hidden: true }, `${t("failed")} `, problemText);
    const resumes = el("ul", { class: "resumes" });
    const facts = el("span", { class: "facts-line" });
    const tools = el(
      "span",
      { class: "tools", hidden: true },
      button(t("copy"), (event) => this.#actions.copy(this.#turn.answer.content, event.currentTarget), { class: "quiet" }),
      button(t("regenerate"), () => this.#actions.regenerate(this.#turn), { class: "quiet regenerate" }),
    );
    const code = button(t("viewCode"), () => this.#actions.showCode(this.#turn), { class: "quiet code-button" });
    this.#answer.replaceChildren(thoughts, body, problem, resumes, el("p", { class: "foot" }, tools, code, facts));
    return { thoughtsTitle, reasoning, thoughts, body, problemText, problem, resumes, facts, tools };
  }
}

function factsOf(answer) {
  const { usage, finishReason, state } = answer;
  const speed = speedOf(answer);
  return [
    usage && t("tokens", { prompt: count(usage.prompt_tokens), completion: count(usage.completion_tokens) }),
    usage?.completion_tokens_details?.reasoning_tokens
      ? t("thoughtTokens", { count: count(usage.completion_tokens_details.reasoning_tokens) })
      : null,
    speed && t("speed", { speed: decimal(speed) }),
    state === "cancelled" ? t("stopped") : null,
    finishReason === "length" ? t("atLimit") : null,
  ]
    .filter(Boolean)
    .join(" · ");
}
