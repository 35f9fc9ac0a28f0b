// Follows unfinished readings: their text as the model writes it, their place in the queue, and their end.
import { get, LoggedOut } from "./asking.js";

const POLL_MILLISECONDS = 1500;
// A browser has six connections to a server at most, and uploads need some.
const MAX_STREAMS = 2;

/**
 * Follows readings. `onText(id, text)` gets all that was written so far, `onPlace(id, place)` the place in the queue,
 * `onEnd(id, row)` the row of a finished reading, `onLoggedOut()` is called until the log-in is back.
 */
export class Follower {
  constructor(address, { onText, onPlace, onEnd, onLoggedOut }) {
    this.address = address;
    this.told = { onText, onPlace, onEnd, onLoggedOut };
    this.readings = new Map();
    this.timer = null;
  }

  add(id, events) {
    if (this.readings.has(id)) return;
    this.readings.set(id, { events, stream: null, text: "", place: 0, isStreamed: false });
    this.openStreams();
    this.timer ??= setTimeout(() => this.poll(), POLL_MILLISECONDS);
  }

  drop(id) {
    this.readings.get(id)?.stream?.close();
    this.readings.delete(id);
  }

  openStreams() {
    const open = [...this.readings.values()].filter((reading) => reading.stream).length;
    const waiting = [...this.readings].filter(([, reading]) => !reading.stream && !reading.isStreamed && !reading.place);
    for (const [id, reading] of waiting.slice(0, Math.max(0, MAX_STREAMS - open))) this.openStream(id, reading);
  }

  openStream(id, reading) {
    const stream = new EventSource(reading.events);
    reading.stream = stream;
    const close = () => {
      stream.close();
      reading.stream = null;
      reading.isStreamed = true;
      this.openStreams();
    };
    stream.onmessage = (event) => {
      const { text, end } = JSON.parse(event.data);
      if (text) this.told.onText(id, (reading.text += text));
      if (end) {
        close();
        this.poll();
      }
    };
    stream.onerror = () => stream.readyState === EventSource.CLOSED && close();
  }

  async poll() {
    clearTimeout(this.timer);
    this.timer = null;
    const asked = [...this.readings.keys()];
    if (!asked.length) return;
    // Set before the answer arrives, so that two calls do not start two polling chains.
    this.timer = setTimeout(() => this.poll(), POLL_MILLISECONDS);
    try {
      const query = asked.map((id) => `reading=${encodeURIComponent(id)}`).join("&");
      const answer = await (await get(`${this.address}?${query}`)).json();
      for (const [id, { row, place }] of Object.entries(answer)) {
        const reading = this.readings.get(id);
        if (!reading) continue;
        if (row) {
          this.drop(id);
          this.told.onEnd(id, row);
        } else {
          reading.place = place;
          this.told.onPlace(id, place);
        }
      }
      this.openStreams();
    } catch (problem) {
      if (problem instanceof LoggedOut) this.told.onLoggedOut();
      // Any other error: the next poll will show.
    }
  }
}

/** What the model has written so far, as lines of a card: `NIK 3171…`. */
export function written(text) {
  const members = [...text.matchAll(/"(\w+)"\s*:\s*"((?:[^"\\]|\\.)*)/g)];
  return members
    .filter(([, , value]) => value)
    .map(([, name, value]) => `${name.replaceAll("_", " ").toUpperCase()}  ${value}`);
}
