/** Where a message is written, with files by button, drop and paste. */

import { button, el, setText } from "./elements.js";
import { fileOf, forgetPreviews, preview, problemOf } from "./files.js";
import { t } from "./page.js";

const MAX_TEXT_FILE_CHARS = 200_000;
const TEXT_FILE = /\.(txt|md|csv|tsv|json|jsonl|yaml|yml|toml|xml|html|css|js|ts|py|sql|sh|log)$/i;

/** `onSend({text, files})` gets a message; `onStop()` is asked for while an answer runs. */
export class Composer {
  #form; #field; #files = []; #shown; #problem; #send; #stop; #onSend;

  constructor(form, { onSend, onStop }) {
    this.#form = form;
    this.#field = form.querySelector("textarea");
    this.#shown = form.querySelector(".attached");
    this.#problem = form.querySelector(".problem");
    this.#send = form.querySelector("[type=submit]");
    this.#stop = form.querySelector(".stop");
    this.#onSend = onSend;
    const chooser = form.querySelector("input[type=file]");
    chooser.addEventListener("change", () => {
      this.add(chooser.files);
      chooser.value = "";
    });
    form.querySelector(".attach").addEventListener("click", () => chooser.click());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#stop.addEventListener("click", onStop);
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("input", () => this.#grow());
    this.#field.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) {
        event.preventDefault();
        this.add(event.clipboardData.files);
      }
    });
    this.#takeDrops();
  }

  #takeDrops() {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (on) => this.#form.classList.toggle("dropping", on);
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(true);
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(false);
      this.add(event.dataTransfer.files);
    });
  }

  focus() {
    this.#field.focus();
  }

  setRunning(isRunning) {
    this.#send.hidden = isRunning;
    this.#stop.hidden = !isRunning;
  }

  /** Pictures and videos go beside the text, text files into it. */
  async add(files) {
    const problems = [];
    for (const blob of files) {
      if (blob.type.startsWith("text/") || blob.type === "application/json" || TEXT_FILE.test(blob.name)) {
        if (blob.size > MAX_TEXT_FILE_CHARS) problems.push(t("longText", { name: blob.name }));
        else this.#insert(blob.name, await blob.text());
        continue;
      }
      const file = fileOf(blob);
      if (typeof file === "string") problems.push(file);
      else this.#files.push(file);
    }
    const together = problemOf(this.#files);
    this.#say([...problems, together].filter(Boolean).join(" "));
    this.#showFiles();
  }

  #insert(name, text) {
    this.#field.value = `${this.#field.value}\n${name}:\n\`\`\`\n${text}\n\`\`\`\n`.trimStart();
    this.#grow();
  }

  #showFiles() {
    forgetPreviews(this.#shown);
    this.#shown.replaceChildren(
      ...this.#files.map((file) =>
        el(
          "li",
          {},
          preview(file),
          button("×", () => this.#remove(file), { "aria-label": t("removeFile", { name: file.name }), title: t("removeFile", { name: file.name }) }),
        ),
      ),
    );
  }

  #remove(file) {
    this.#files = this.#files.filter((one) => one !== file);
    this.#say(problemOf(this.#files));
    this.#showFiles();
    this.focus();
  }

  #say(problem) {
    this.#problem.hidden = !problem;
    setText(this.#problem, problem);
  }

  #key(event) {
    // On a phone the key makes a new line: the button is beside it. While characters are composed it chooses one.
    const sends = event.key === "Enter" && !event.shiftKey && !event.isComposing && !matchMedia("(pointer: coarse)").matches;
    if (!sends) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const text = this.#field.value.trim();
    const files = this.#files;
    if (this.#send.hidden || (!text && !files.length)) return;
    const problem = problemOf(files);
    this.#say(problem);
    if (problem) return;
    this.#field.value = "";
    this.#files = [];
    this.#showFiles();
    this.#grow();
    this.#onSend({ text, files });
  }

  #grow() {
    this.#field.rows = Math.min(Math.max(this.#field.value.split("\n").length, Math.ceil(this.#field.value.length / 80), 1), 8);
  }
}
