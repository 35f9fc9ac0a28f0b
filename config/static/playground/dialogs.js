/** The page's dialogs: the key, the code, the parameters, and whether to remove a chat. */

import { checkKey } from "./api.js";
import { codeOf } from "./code.js";
import { copyText } from "./copying.js";
import { button, el, setText } from "./elements.js";
import * as key from "./key.js";
import { t } from "./page.js";

const dialog = (id) => document.getElementById(id);

/** Buttons that close the dialog they are in, and a click beside it does. */
export function prepareDialogs() {
  for (const one of document.querySelectorAll("dialog")) {
    for (const close of one.querySelectorAll(".close")) close.addEventListener("click", () => one.close());
    one.addEventListener("click", (event) => event.target === one && one.close());
  }
}

/** Asks for a key until the server takes one. False when the person closed the dialog. */
export async function askForKey(problem = "") {
  const box = dialog("key-dialog");
  if (box.open) return false;
  const form = box.querySelector("form");
  const field = form.querySelector("input");
  const message = form.querySelector(".problem");
  const say = (text) => {
    message.hidden = !text;
    setText(message, text);
  };
  say(problem);
  box.showModal();
  return new Promise((resolve) => {
    const ends = new AbortController();
    form.addEventListener(
      "submit",
      async (event) => {
        event.preventDefault();
        key.keep(field.value.trim());
        try {
          await checkKey();
          field.value = "";
          box.returnValue = "taken";
          box.close("taken");
        } catch (refusal) {
          key.forget();
          say(refusal.status === 401 ? t("wrongKey") : refusal.message);
          field.select();
        }
      },
      { signal: ends.signal },
    );
    box.addEventListener(
      "close",
      () => {
        ends.abort();
        const isTaken = box.returnValue === "taken";
        box.returnValue = "";
        resolve(isTaken);
      },
      { signal: ends.signal },
    );
  });
}

/** The request as code, in three languages. */
export function showCode(turns, parameters) {
  const box = dialog("code-dialog");
  const shown = codeOf(turns, parameters).map(({ name, code }) => {
    const pre = el("pre", { tabindex: "0" }, el("code", {}, code));
    const copy = button(t("copy"), (event) => copyText(code, event.currentTarget, pre), { class: "quiet" });
    return el("details", { name: "code", class: "code", open: name === "curl" }, el("summary", {}, name), copy, pre);
  });
  box.querySelector(".codes").replaceChildren(...shown);
  const hasFiles = turns.some((turn) => turn.files.length);
  box.querySelector(".file-note").hidden = !hasFiles;
  box.showModal();
}

/** Whether the person says yes. */
export function confirmRemoval(title) {
  const box = dialog("remove-dialog");
  setText(box.querySelector(".title"), title);
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve) => box.addEventListener("close", () => resolve(box.returnValue === "yes"), { once: true }));
}
