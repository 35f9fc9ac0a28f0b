/**
 * Shows Markdown that a model wrote. The nodes are made here, one by one and of kinds that are named here, so HTML in
 * the text stays text, and nothing is loaded from anywhere.
 */

import { blocksOf } from "./blocks.js";
import { el } from "./elements.js";
import { inlinesOf } from "./inlines.js";

const SAFE_PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
const LOOKS_LIKE_JSON = /^\s*(?:\{\s*(?:"|\}|$)|\[\s*(?:["[{\d]|$))/;

/**
 * Shows `text` in `container`. Called again as the text grows: the blocks that did not change keep their nodes, and
 * with them a selection in them. `codeTools(text)` gives a node for the head of a code block.
 */
export function showMarkdown(container, text, codeTools) {
  const shown = container.shownBlocks ?? [];
  // An answer in JSON is no Markdown; as such its line breaks would be lost.
  const blocks = LOOKS_LIKE_JSON.test(text) ? [{ type: "code", lang: "json", text, raw: text }] : blocksOf(text);
  let same = 0;
  while (same < shown.length && same < blocks.length && shown[same].raw === blocks[same].raw) same++;
  for (const { node } of shown.splice(same)) node.remove();
  for (const one of blocks.slice(same)) {
    const node = block(one, codeTools);
    container.append(node);
    shown.push({ raw: one.raw, node });
  }
  container.shownBlocks = shown;
}

function block(one, codeTools) {
  const blocks = (all) => all.map((each) => block(each, codeTools));
  switch (one.type) {
    case "heading":
      // The page has headings of its own above these.
      return el(`h${Math.min(one.depth + 2, 6)}`, {}, ...inlines(one.text));
    case "code":
      return el(
        "figure",
        { class: "code" },
        el("figcaption", {}, el("span", {}, one.lang), codeTools(one.text)),
        el("pre", { tabindex: "0" }, el("code", {}, one.text)),
      );
    case "quote":
      return el("blockquote", {}, ...blocks(one.blocks));
    case "list":
      return el(
        one.start === null ? "ul" : "ol",
        { start: one.start },
        ...one.items.map((item) => listItem(item, one.isLoose, blocks)),
      );
    case "table":
      return table(one);
    case "rule":
      return el("hr");
    default:
      return el("p", {}, ...inlines(one.text));
  }
}

function listItem({ checked, blocks }, isLoose, nodesOf) {
  const inside = blocks.flatMap((one) => (one.type === "paragraph" && !isLoose ? inlines(one.text) : nodesOf([one])));
  return el("li", { class: checked === null ? null : "task" }, checked === null ? null : checked ? "☑ " : "☐ ", ...inside);
}

function table({ aligns, header, rows }) {
  const cells = (tag, row) => row.map((cell, column) => el(tag, { class: aligns[column] }, ...inlines(cell)));
  return el(
    "div",
    { class: "table", tabindex: "0" },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...cells("th", header))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells("td", row)))),
    ),
  );
}

const inlines = (text) => inlinesOf(text).map(inline);

function inline(part) {
  switch (part.type) {
    case "text":
      return document.createTextNode(part.text);
    case "code":
      return el("code", {}, part.text);
    case "break":
      return el("br");
    case "link":
      return isSafe(part.address)
        ? el(
            "a",
            { href: part.address, rel: "noopener noreferrer nofollow", referrerpolicy: "no-referrer", target: "_blank" },
            ...part.parts.map(inline),
          )
        : el("span", {}, ...part.parts.map(inline));
    default:
      return el(part.type, {}, ...part.parts.map(inline));
  }
}

function isSafe(address) {
  try {
    return SAFE_PROTOCOLS.has(new URL(address).protocol);
  } catch {
    return false; // Relative to this page it would mean something else than the model can know.
  }
}
