/** The server's API, as any client would call it. */

import { config } from "./page.js";
import * as key from "./key.js";
import { Broken } from "./sse.js";

/** The server answered, and said no. `retryAfter` is in seconds, or null. */
export class Refusal extends Error {
  constructor(status, error, retryAfter) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.retryAfter = retryAfter;
  }
}

const address = (name, sessionId) => config.addresses[name].replace("SESSION", encodeURIComponent(sessionId));

/** Open a session, or attach to the one that the same request has opened. Gives its stream. */
export function openChat(request, sessionId, signal) {
  const body = { ...request, [config.sessionIdField]: sessionId, stream: true, stream_options: { include_usage: true } };
  return ask(config.addresses.chat, { method: "POST", body: JSON.stringify(body), signal });
}

/** The stream of a session after the event `lastIndex`. Status 204: there are no further events. */
export function readEvents(sessionId, lastIndex, signal) {
  const headers = lastIndex < 0 ? {} : { "Last-Event-ID": `${sessionId}:${lastIndex}` };
  return ask(`${address("events", sessionId)}?include_usage=true`, { headers, signal });
}

export const cancel = (sessionId) => ask(address("cancel", sessionId), { method: "POST" });
export const checkKey = () => ask(config.addresses.models);
export const health = async () => (await fetch(config.addresses.health)).json();

async function ask(url, { headers = {}, ...options } = {}) {
  const sent = { ...headers };
  if (options.body) sent["Content-Type"] = "application/json";
  if (key.read()) sent.Authorization = `Bearer ${key.read()}`;
  const response = await fetch(url, { ...options, headers: sent, cache: "no-store", credentials: "omit" }).catch((problem) => {
    throw new Broken(problem.message);
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const error = said.error ?? { message: `HTTP ${response.status}`, code: null };
  throw new Refusal(response.status, error, Number(response.headers.get("Retry-After")) || null);
}
