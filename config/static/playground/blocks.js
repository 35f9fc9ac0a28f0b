/** Takes Markdown apart into blocks: paragraphs, lists, code. HTML is not known here: it is text like any other. */

const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})[ \t]*(\S*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])(?:( {1,4})(?! )|( +)|$)/;
const TASK = /^\[([ xX])\] +/;
const UNDERLINE = /^ {0,3}(?:(=+)|-+)[ \t]*$/;
const COLUMNS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const CELL_BORDER = /(?<!\\)\|/;
/** What is nested deeper is shown as it is. */
const DEEPEST = 20;

/**
 * The blocks of `text`: `{type, raw}` and, by type, `text`, `depth`, `lang`, `blocks`, `items`, `header` and `rows`.
 * `raw` is the text that the block was made of: equal ones look equal.
 */
export function blocksOf(text) {
  return blocksIn(text.replaceAll("\t", "    ").split(/\r\n?|\n/), 0);
}

const isBlank = (line) => !line.trim();
const indentOf = (line) => line.length - line.trimStart().length;

function blocksIn(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (isBlank(lines[at])) {
      at++;
      continue;
    }
    const found = depth > DEEPEST ? asItIs(lines, at) : blockAt(lines, at, depth);
    blocks.push({ ...found.block, raw: lines.slice(at, found.end).join("\n") });
    at = found.end;
  }
  return blocks;
}

const asItIs = (lines, at) => ({ block: { type: "code", lang: "", text: lines.slice(at).join("\n") }, end: lines.length });

function blockAt(lines, at, depth) {
  const line = lines[at];
  let match;
  if ((match = FENCE.exec(line))) return fenced(lines, at, match);
  if ((match = HEADING.exec(line))) {
    const text = (match[2] ?? "").trim().replace(/(?:^| )#+$/, "");
    return { block: { type: "heading", depth: match[1].length, text }, end: at + 1 };
  }
  if (RULE.test(line)) return { block: { type: "rule" }, end: at + 1 };
  if (QUOTE.test(line)) return quoted(lines, at, depth);
  if (ITEM.test(line)) return listed(lines, at, depth);
  if (indentOf(line) >= 4) return indented(lines, at);
  if (isTableAt(lines, at)) return tabled(lines, at);
  return paragraph(lines, at);
}

/** Whether a paragraph before it ends here. */
function beginsBlock(lines, at) {
  const line = lines[at];
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || isTableAt(lines, at) || beginsList(line);
}

/** In the middle of a text, "1987. A year" begins no list, and neither does a dash alone. */
function beginsList(line) {
  const item = ITEM.exec(line);
  return Boolean(item) && item[0].length < line.length && (item[3] === undefined || item[3] === "1");
}

function fenced(lines, at, [, indent, fence, lang]) {
  const text = [];
  let end = at + 1;
  for (; end < lines.length; end++) {
    const closing = lines[end].trim();
    if (closing.length >= fence.length && closing === fence[0].repeat(closing.length)) break;
    text.push(lines[end].slice(Math.min(indent.length, indentOf(lines[end]))));
  }
  return { block: { type: "code", lang, text: text.join("\n") }, end: Math.min(end + 1, lines.length) };
}

function indented(lines, at) {
  let end = at;
  while (end < lines.length && (isBlank(lines[end]) || indentOf(lines[end]) >= 4)) end++;
  while (isBlank(lines[end - 1])) end--;
  const text = lines.slice(at, end).map((line) => line.slice(4));
  return { block: { type: "code", lang: "", text: text.join("\n") }, end };
}

function quoted(lines, at, depth) {
  const inside = [];
  let end = at;
  for (; end < lines.length && !isBlank(lines[end]); end++) {
    if (!QUOTE.test(lines[end]) && beginsBlock(lines, end)) break;
    inside.push(lines[end].replace(QUOTE, ""));
  }
  return { block: { type: "quote", blocks: blocksIn(inside, depth + 1) }, end };
}

function listed(lines, at, depth) {
  const kindOf = ([, , marker, number]) => (number === undefined ? marker : marker.at(-1));
  const first = ITEM.exec(lines[at]);
  const items = [];
  let isLoose = false;
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || kindOf(item) !== kindOf(first) || RULE.test(lines[end])) break;
    const [, indent, marker, , gap] = item;
    const content = indent.length + marker.length + (gap?.length ?? 1);
    // Models indent what is under "1." by two, where three are asked for.
    const least = Math.min(content, indent.length + 2);
    const inside = [lines[end].slice(content)];
    for (end++; end < lines.length; end++) {
      const line = lines[end];
      if (isBlank(line)) inside.push("");
      else if (indentOf(line) >= least) inside.push(line.slice(Math.min(content, indentOf(line))));
      else if (inside.at(-1) !== "" && !beginsBlock(lines, end) && !ITEM.test(line)) inside.push(line.trimStart());
      else break;
    }
    let blanks = 0;
    for (; inside.length > 1 && inside.at(-1) === ""; blanks++) inside.pop();
    const task = TASK.exec(inside[0]);
    if (task) inside[0] = inside[0].slice(task[0].length);
    isLoose ||= inside.includes("") || (blanks > 0 && end < lines.length && ITEM.test(lines[end]));
    items.push({ checked: task ? task[1] !== " " : null, blocks: blocksIn(inside, depth + 1) });
  }
  const start = first[3] === undefined ? null : Number(first[3]);
  return { block: { type: "list", start, isLoose, items }, end };
}

const isTableAt = (lines, at) =>
  at + 1 < lines.length &&
  lines[at].includes("|") &&
  lines[at + 1].includes("-") &&
  COLUMNS.test(lines[at + 1]) &&
  cellsOf(lines[at]).length === cellsOf(lines[at + 1]).length;

function cellsOf(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(CELL_BORDER).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function tabled(lines, at) {
  const aligns = cellsOf(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : null));
  const rows = [];
  let end = at + 2;
  for (; end < lines.length && !isBlank(lines[end]) && lines[end].includes("|"); end++) {
    const cells = cellsOf(lines[end]);
    rows.push(aligns.map((_, column) => cells[column] ?? ""));
  }
  return { block: { type: "table", aligns, header: cellsOf(lines[at]), rows }, end };
}

function paragraph(lines, at) {
  let end = at + 1;
  for (; end < lines.length && !isBlank(lines[end]); end++) {
    const underline = UNDERLINE.exec(lines[end]);
    if (underline) {
      const text = lines.slice(at, end).join("\n").trim();
      return { block: { type: "heading", depth: underline[1] ? 1 : 2, text }, end: end + 1 };
    }
    if (beginsBlock(lines, end)) break;
  }
  return { block: { type: "paragraph", text: lines.slice(at, end).map((line) => line.trimStart()).join("\n").trim() }, end };
}
