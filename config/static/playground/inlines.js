/**
 * Takes the text of a paragraph apart: emphasis, code, links. In one pass, whose time grows with the text alone, because
 * who wrote it may mean us ill.
 */

const PLAIN = /[^\\`*_~![\]<&\nh]+/y;
const RUN = /([*_~`])\1*/y;
const TARGET = /\(\s{0,9}(?:<([^<>\n]{0,2000})>|([^\s()<>]{0,2000}(?:\([^\s()<>]{0,500}\)[^\s()<>]{0,500}){0,9}))(?:\s{1,9}(?:"[^"]{0,500}"|'[^']{0,500}'))?\s{0,9}\)/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/iy;
const BARE_LINK = /https?:\/\/[^\s<>"'`|\\]{1,2000}/iy;
const BREAK = /<br ?\/?>/iy;
const ENTITY = /&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(\w{1,31}));/y;
const ENTITIES = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", hellip: "…", ndash: "–",
  mdash: "—", lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”", times: "×", deg: "°", middot: "·", bull: "•", rarr: "→",
};
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const SPACE_OR_NONE = /^\s?$/u;
const MARK = /[\p{P}\p{S}]/u;
const DEEPEST = 20;
/** So far back an opener is looked at before it is used. */
const FARTHEST = 20;

/**
 * The parts of `text`: `{type: "text" | "code", text}`, `{type: "break"}`, and `{type: "em" | "strong" | "del" | "link",
 * parts}`, a link with its `address`. A picture is a link: nothing is loaded from elsewhere.
 */
export function inlinesOf(text) {
  return new Reader(text).read();
}

class Reader {
  #text;
  #at = 0;
  #parts = [];
  // marks that may open emphasis: {mark, count, isBoth, place, part}; the place is in #parts
  #openers = [];
  // how many of each mark are among them
  #open = { "*": 0, _: 0, "~": 0 };
  // brackets that may open a link: {place, openers, isPicture}
  #brackets = [];
  // by the length of a run of backticks, where the last one of that length begins
  #lastRuns = new Map();

  constructor(text) {
    this.#text = text;
    for (const { 0: run, index } of text.matchAll(/`+/g)) this.#lastRuns.set(run.length, index);
  }

  read() {
    while (this.#at < this.#text.length) this.#step();
    return this.#parts;
  }

  #match(pattern) {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#text);
  }

  #add(part, length) {
    this.#parts.push({ depth: 0, ...part });
    this.#at += length;
  }

  #say(text, length = text.length) {
    const last = this.#parts.at(-1);
    // A mark that may still open something keeps its part to itself.
    if (last?.type === "text" && !last.isMark) {
      last.text += text;
      this.#at += length;
    } else this.#add({ type: "text", text }, length);
  }

  #step() {
    const plain = this.#match(PLAIN);
    if (plain) return this.#say(plain[0]);
    const sign = this.#text[this.#at];
    const next = this.#text[this.#at + 1];
    switch (sign) {
      case "\\":
        if (next === "\n") return this.#add({ type: "break" }, 2);
        return next && PUNCTUATION.test(next) ? this.#say(next, 2) : this.#say(sign);
      case "\n":
        return this.#add({ type: "break" }, 1);
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#emphasis();
      case "!":
        return next === "[" ? this.#bracket("![") : this.#say(sign);
      case "[":
        return this.#bracket("[");
      case "]":
        return this.#link();
      case "<":
        return this.#angle();
      case "&":
        return this.#entity();
      default:
        return this.#bareLink();
    }
  }

  #code() {
    const [run] = this.#match(RUN);
    const begin = this.#at + run.length;
    if ((this.#lastRuns.get(run.length) ?? -1) < begin) return this.#say(run);
    // It is there; runs of other lengths on the way are part of the code.
    const closing = new RegExp(`(?<!\`)\`{${run.length}}(?!\`)`, "g");
    closing.lastIndex = begin;
    const end = closing.exec(this.#text).index;
    const text = this.#text.slice(begin, end).replaceAll("\n", " ");
    const isPadded = text.startsWith(" ") && text.endsWith(" ") && text.trim();
    return this.#add({ type: "code", text: isPadded ? text.slice(1, -1) : text }, end + run.length - this.#at);
  }

  #emphasis() {
    const [run, mark] = this.#match(RUN);
    let count = run.length;
    const before = this.#text[this.#at - 1] ?? "";
    const after = this.#text[this.#at + count] ?? "";
    if (mark === "~" && count !== 2) return this.#say(run);
    const isLeft = !SPACE_OR_NONE.test(after) && (!MARK.test(after) || SPACE_OR_NONE.test(before) || MARK.test(before));
    const isRight = !SPACE_OR_NONE.test(before) && (!MARK.test(before) || SPACE_OR_NONE.test(after) || MARK.test(after));
    const closes = isRight && (mark !== "_" || !isLeft || MARK.test(after));
    const opens = isLeft && (mark !== "_" || !isRight || MARK.test(before));
    this.#at += count;
    const isBoth = closes && opens;
    while (closes && count && this.#canClose(mark, count, isBoth)) count = this.#close(mark, count);
    if (!count) return undefined;
    const part = { type: "text", text: mark.repeat(count), isMark: true, depth: 0 };
    if (opens) {
      this.#openers.push({ mark, count, isBoth, place: this.#parts.length, part });
      this.#open[mark]++;
    }
    this.#parts.push(part);
    return undefined;
  }

  /** CommonMark's rule of three: in `**a*b*c**` the marks inside belong together. */
  #canClose(mark, count, isBoth) {
    if (!this.#open[mark]) return false;
    const opener = this.#openers.slice(-FARTHEST).findLast((one) => one.mark === mark);
    if (!opener || !(isBoth || opener.isBoth)) return true;
    return (opener.count + count) % 3 !== 0 || (opener.count % 3 === 0 && count % 3 === 0);
  }

  /** Closes the nearest opener of `mark`; those in between open nothing. How many marks are left to close with. */
  #close(mark, count) {
    let opener;
    do {
      opener = this.#openers.pop();
      this.#open[opener.mark]--;
    } while (opener.mark !== mark);
    const used = Math.min(opener.count, count, 2);
    const type = mark === "~" ? "del" : used === 2 ? "strong" : "em";
    const inside = this.#parts.splice(opener.place + 1);
    while (this.#brackets.length && this.#brackets.at(-1).place > opener.place) this.#brackets.pop();
    opener.count -= used;
    opener.part.text = mark.repeat(opener.count);
    if (opener.count) {
      this.#openers.push(opener);
      this.#open[mark]++;
    } else this.#parts.pop();
    this.#wrap({ type }, inside);
    return count - used;
  }

  /** What is nested too deep stands side by side. */
  #wrap(part, inside) {
    const depth = 1 + inside.reduce((deepest, one) => Math.max(deepest, one.depth), 0);
    if (depth > DEEPEST) for (const one of inside) this.#parts.push(one);
    else this.#parts.push({ ...part, parts: inside, depth });
  }

  #bracket(sign) {
    this.#brackets.push({ place: this.#parts.length, openers: this.#openers.length, isPicture: sign === "![" });
    this.#add({ type: "text", text: sign, isMark: true }, sign.length);
  }

  #link() {
    const bracket = this.#brackets.pop();
    if (!bracket) return this.#say("]");
    this.#at++;
    const target = this.#match(TARGET);
    this.#at--;
    if (!target) return this.#say("]");
    const inside = this.#parts.splice(bracket.place).slice(1);
    for (const { mark } of this.#openers.splice(bracket.openers)) this.#open[mark]--;
    const address = target[1] ?? target[2];
    if (!bracket.isPicture) this.#brackets = []; // No link is in a link.
    this.#wrap({ type: "link", address }, inside.length ? inside : [{ type: "text", text: address, depth: 0 }]);
    this.#at += 1 + target[0].length;
    return undefined;
  }

  #angle() {
    const found = this.#match(AUTOLINK);
    if (found) return this.#linkTo(found[1], found[0].length);
    const line = this.#match(BREAK);
    return line ? this.#add({ type: "break" }, line[0].length) : this.#say("<");
  }

  #bareLink() {
    const found = /\w/.test(this.#text[this.#at - 1] ?? "") ? null : this.#match(BARE_LINK);
    if (!found) return this.#say(this.#text[this.#at]);
    let address = found[0].replace(/[.,;:!?*_~\]]{1,20}$/, "");
    // "(see https://example.org/)": the bracket is not the address's.
    while (address.endsWith(")") && address.split(")").length > address.split("(").length) address = address.slice(0, -1);
    return this.#linkTo(address, address.length);
  }

  #linkTo(address, length) {
    this.#add({ type: "link", address, parts: [{ type: "text", text: address, depth: 0 }], depth: 1 }, length);
  }

  #entity() {
    const found = this.#match(ENTITY);
    if (!found) return this.#say("&");
    const [entity, decimal, hex, name] = found;
    const point = parseInt(decimal ?? hex, decimal ? 10 : 16);
    if (name) return this.#say(Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : entity, entity.length);
    return this.#say(point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd", entity.length);
  }
}
