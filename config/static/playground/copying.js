/** Copies a text, and says so on the button. */

import { setText } from "./elements.js";
import { t } from "./page.js";

const SHOWN_MS = 1500;

/** `source` shows the text, and is selected where the browser does not let a page copy: without TLS. */
export async function copyText(text, pressed, source = null) {
  const label = pressed.textContent;
  const isCopied = await written(text, source);
  setText(pressed, t(isCopied ? "copied" : "notCopied"));
  setTimeout(() => setText(pressed, label), SHOWN_MS);
}

async function written(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (!source) return false;
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}
