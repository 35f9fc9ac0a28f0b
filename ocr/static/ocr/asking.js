// Requests of the clerk's pages to the server, with the browser's log-in session.

/** The log-in has expired: the server did nothing, and the user has to log in. */
export class LoggedOut extends Error {}

/** The server refused the request; the message is for the user. */
export class Refused extends Error {
  constructor(message, mayRetry, status = 0) {
    super(message);
    this.mayRetry = mayRetry;
    this.status = status;
  }
}

/** Django's CSRF token. It is read each time, because a log-in in another tab changes it. */
export function csrfToken() {
  const cookie = document.cookie.split("; ").find((part) => part.startsWith("csrftoken="));
  const field = document.querySelector("input[name=csrfmiddlewaretoken]");
  return cookie ? decodeURIComponent(cookie.slice("csrftoken=".length)) : field?.value ?? "";
}

const HEADERS = { Accept: "application/json, text/html" };

/** The response, if its status is good. */
async function checked(response) {
  if (response.status === 401) throw new LoggedOut();
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Refused(said.message ?? "", said.may_retry ?? response.status >= 500, response.status);
  }
  return response;
}

export async function get(address) {
  return checked(await fetch(address, { headers: HEADERS }));
}

export async function post(address, form) {
  return checked(
    await fetch(address, { method: "POST", body: form, headers: { ...HEADERS, "X-CSRFToken": csrfToken() } }),
  );
}

/** Send a form with a file. `onProgress` gets the part that is sent, 0 to 1. `signal` aborts it. */
export function send(address, form, onProgress, signal) {
  // Not fetch, which does not report the progress of a request.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    request.setRequestHeader("Accept", HEADERS.Accept);
    request.setRequestHeader("X-CSRFToken", csrfToken());
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.upload.onload = () => onProgress(1);
    request.onload = () => {
      if (request.status === 401) return reject(new LoggedOut());
      if (request.status === 201) return resolve(request.responseText);
      let said = {};
      try {
        said = JSON.parse(request.responseText);
      } catch {
        // A page of another server, such as a proxy.
      }
      reject(new Refused(said.message ?? "", said.may_retry ?? true, request.status));
    };
    request.onerror = () => reject(new Refused("", true));
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** `text` with its {names} filled in. */
export function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** The server's HTML as an element. */
export function element(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html.trim();
  return holder.content.firstElementChild;
}
