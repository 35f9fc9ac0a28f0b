/* Asks for the figures of the front page every two seconds and puts them in place of the old ones. */

import { morph } from "./morph.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 8000;

const figures = document.getElementById("now");
const line = document.getElementById("now-line");

async function read() {
  const response = await fetch(figures.dataset.url, { signal: AbortSignal.timeout(PATIENCE_MS), redirect: "error" });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.text();
}

async function refresh() {
  try {
    const page = new DOMParser().parseFromString(await read(), "text/html");
    morph(figures, page.body);
    show(true);
  } catch {
    // The server is away, or the log-in has ended: the figures stay and are marked as old.
    show(false);
  }
}

function show(isFresh) {
  line.hidden = isFresh;
  figures.classList.toggle("now-stale", !isFresh);
}

async function watch() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    if (!document.hidden) await refresh();
  }
}

watch();
