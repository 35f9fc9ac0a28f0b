/** Reads server-sent events out of text that comes in pieces, cut anywhere. */

/** The network failed, or we ended the connection: the server did not refuse. */
export class Broken extends Error {}

/** By the WHATWG standard, of which `id` and `data` are used here. */
export class EventParser {
  #rest = "";
  #data = [];
  #id = "";

  /** The events that `text` completes: `{id, data}`. */
  push(text) {
    this.#rest += text;
    const events = [];
    for (;;) {
      const end = /\r\n|\n|\r/.exec(this.#rest);
      // A carriage return at the very end may be the first half of a line end.
      if (!end || (end[0] === "\r" && end.index === this.#rest.length - 1)) return events;
      const line = this.#rest.slice(0, end.index);
      this.#rest = this.#rest.slice(end.index + end[0].length);
      if (line) this.#take(line);
      else if (this.#data.length) {
        events.push({ id: this.#id, data: this.#data.join("\n") });
        this.#data = [];
      }
    }
  }

  #take(line) {
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (name === "data") this.#data.push(value ?? "");
    else if (name === "id") this.#id = value ?? "";
  }
}

/**
 * The events of a response, as they come. `heard` is called for every piece of it, comments included.
 * Ends when the response ends, which does not mean that the answer has.
 */
export async function* eventsOf(response, heard = () => {}) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((problem) => {
        throw new Broken(problem.message);
      });
      if (done) return;
      heard();
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
