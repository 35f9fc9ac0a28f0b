// The clerk's tray: files are chosen, dropped, pasted or photographed, sent two at a time, and followed to their end.
import { element, filled, get, LoggedOut, post, Refused, send } from "./asking.js";
import { Follower, written } from "./following.js";

const AT_ONCE = 2;
const FULL_MILLISECONDS = 3000;
const ENDINGS = /\.(jpe?g|jfif|png|webp|gif|bmp|dib|tiff?|hei[cf]|avif|pdf)$/i;

const form = document.getElementById("tray-form");
const list = document.getElementById("tray");
const texts = document.getElementById("tray-texts").dataset;
const banner = document.getElementById("log-in-again");
const input = form.elements.image;
const maxBytes = Number(form.dataset.maxBytes);
const maxFiles = Number(form.dataset.maxFiles);

/** @type {Set<Item>} in the order in which they were chosen */
const items = new Set();
/** rows of the page by the id of their reading: elements that hold a `.reading` */
const holders = new Map();

const follower = new Follower(form.dataset.progress, {
  onText(id, text) {
    const live = holders.get(id)?.querySelector(".live");
    if (!live) return;
    live.textContent = written(text).slice(-1).join("");
    holders.get(id).querySelector(".place")?.remove();
  },
  onPlace(id, place) {
    const reading = holders.get(id)?.querySelector(".reading");
    if (!reading) return;
    const shown = reading.querySelector(".place") ?? reading.querySelector(".reading-head").appendChild(element("<span class=place></span>"));
    shown.textContent = place ? filled(texts.place, { place }) : "";
  },
  onEnd: (id, html) => put(holders.get(id), html),
  onLoggedOut: () => askToLogIn(),
});

class Item {
  constructor(file, page = 1) {
    this.file = file;
    this.page = page;
    this.state = "waiting";
    this.element = document.getElementById("tray-item").content.firstElementChild.cloneNode(true);
    this.find(".file").textContent = file.name;
    this.find("progress").setAttribute("aria-label", file.name);
    this.find(".kind").textContent = (file.name.split(".").pop() || file.type.split("/").pop()).slice(0, 4).toUpperCase();
    this.find(".status").textContent = texts.waiting;
    for (const button of this.element.querySelectorAll("[data-remove]")) button.onclick = () => this.remove();
    this.find("[data-again]").onclick = () => this.wait();
    this.find("[data-page]").onclick = () => this.readPage();
    this.showPicture(URL.createObjectURL(file));
    list.append(this.element);
    items.add(this);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** Browsers do not show HEIC, TIFF or PDF: the file extension is shown instead, and later the server's picture. */
  showPicture(address) {
    const image = this.find(".thumb img");
    image.onload = () => {
      image.hidden = false;
      this.find(".kind").hidden = true;
    };
    image.onerror = () => (image.hidden = true);
    image.src = address;
    this.address = address;
  }

  wait() {
    this.state = "waiting";
    this.find(".refused").hidden = true;
    this.find(".sending").hidden = false;
    this.find("progress").value = 0;
    this.find(".status").textContent = texts.waiting;
    sendNext();
  }

  refuse(message, mayRetry) {
    this.state = "refused";
    this.find(".sending").hidden = true;
    this.find(".refused").hidden = false;
    this.find(".refused .problem").textContent = message || texts.noConnection;
    this.find("[data-again]").hidden = !mayRetry;
  }

  remove() {
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    this.aborter?.abort();
    URL.revokeObjectURL(this.address);
    items.delete(this);
    this.element.remove();
    (next?.querySelector("button:not([hidden])") ?? input).focus();
    summarize();
    sendNext();
  }

  async send() {
    this.state = "sending";
    this.aborter = new AbortController();
    const body = new FormData();
    body.append("image", this.file, this.file.name);
    body.append("page", String(this.page));
    const onProgress = (part) => {
      this.find("progress").value = part;
      this.find(".status").textContent = part < 1 ? filled(texts.sending, { part: `${Math.floor(part * 100)}%` }) : texts.checking;
    };
    try {
      this.take(await send(form.action || location.href, body, onProgress, this.aborter.signal));
    } catch (problem) {
      if (problem instanceof LoggedOut) {
        this.state = "expired";
        this.find("progress").value = 0;
        this.find(".status").textContent = texts.expired;
        askToLogIn();
      } else if (problem.status === 429) {
        // Too many of the user's cards are waiting; there is room once some are read.
        this.state = "delayed";
        this.find("progress").value = 0;
        this.find(".status").textContent = texts.waiting;
        setTimeout(() => items.has(this) && this.wait(), FULL_MILLISECONDS);
      } else if (problem instanceof Refused) this.refuse(problem.message, problem.mayRetry);
      else if (problem.name !== "AbortError") throw problem;
    }
    summarize();
    sendNext();
  }

  /** The server has the file, and this is its row. */
  take(html) {
    this.state = "taken";
    this.find(".sending").hidden = true;
    const reading = put(this.find(".row"), html);
    if (this.find(".thumb img").hidden) this.showPicture(`${location.pathname}${reading.dataset.reading}/image/`);
    const pages = Number(reading.dataset.pages);
    if (pages > 1) {
      this.find(".pages").hidden = false;
      this.find(".pages input").max = pages;
      this.find(".pages input").value = this.page;
      this.find(".pages .of").textContent = filled(texts.of, { pages });
    }
  }

  readPage() {
    const field = this.find(".pages input");
    if (field.reportValidity() && field.value) add([this.file], Number(field.value));
  }
}

/** Put the row of a reading where it belongs, and follow it while it is not finished. */
function put(holder, html) {
  if (!holder) return null;
  const hadFocus = holder.contains(document.activeElement);
  const reading = element(html);
  holder.replaceChildren(reading);
  // The picture may have been turned.
  const image = holder.closest(".tray-item")?.querySelector(".thumb img");
  if (image && holder.dataset.turned) image.src = `${location.pathname}${reading.dataset.reading}/image/?${Date.now()}`;
  delete holder.dataset.turned;
  watch(reading, holder);
  if (hadFocus) reading.focus();
  summarize();
  return reading;
}

function watch(reading, holder) {
  holders.set(reading.dataset.reading, holder);
  if (reading.dataset.events) follower.add(reading.dataset.reading, reading.dataset.events);
  for (const own of reading.querySelectorAll("form[data-replaces-row]")) own.onsubmit = (event) => act(event, own, holder);
}

/** Cancel, turn, read again: like the form, but without leaving the page. */
async function act(event, own, holder) {
  event.preventDefault();
  const body = new FormData(own, event.submitter);
  for (const button of own.querySelectorAll("button")) button.disabled = true;
  try {
    if (Number(body.get("quarters"))) holder.dataset.turned = "1";
    follower.drop(holder.querySelector(".reading").dataset.reading);
    put(holder, await (await post(own.getAttribute("action"), body)).text());
  } catch (problem) {
    for (const button of own.querySelectorAll("button")) button.disabled = false;
    if (problem instanceof LoggedOut) askToLogIn();
    else {
      own.querySelector(".problem")?.remove();
      const shown = own.appendChild(element('<p class="problem error" role="alert"></p>'));
      shown.textContent = problem.message || texts.noConnection;
    }
    const reading = holder.querySelector(".reading");
    if (reading.dataset.events) follower.add(reading.dataset.reading, reading.dataset.events);
  }
}

function add(files, page = 1) {
  const room = maxFiles - [...items].filter((item) => item.state !== "taken" && item.state !== "refused").length;
  const chosen = [...files];
  for (const file of chosen.slice(0, Math.max(0, room))) {
    const item = new Item(file, page);
    const isPicture = (file.type.startsWith("image/") && file.type !== "image/svg+xml") || file.type === "application/pdf";
    if (!file.size) item.refuse(texts.empty, false);
    else if (!isPicture && !ENDINGS.test(file.name)) item.refuse(texts.noPicture, false);
    else if (file.size > maxBytes) item.refuse(texts.tooLarge, false);
  }
  const left = chosen.length - Math.max(0, Math.min(room, chosen.length));
  const note = document.getElementById("image-errors");
  note.replaceChildren();
  if (left) {
    const shown = note.appendChild(element('<p class="problem warning" role="alert"></p>'));
    shown.textContent = filled(texts.tooMany, { most: maxFiles, left });
  }
  summarize();
  sendNext();
}

function sendNext() {
  const sending = [...items].filter((item) => item.state === "sending").length;
  if (!banner.hidden) return;
  for (const item of [...items].filter((item) => item.state === "waiting").slice(0, Math.max(0, AT_ONCE - sending))) item.send();
}

function summarize() {
  const all = [...items].filter((item) => item.state !== "refused");
  const read = all.filter((item) => item.state === "taken" && !item.find(".reading[data-events]")).length;
  const text = all.length ? filled(texts.summary, { read, all: all.length }) : "";
  const summary = document.getElementById("tray-summary");
  if (summary.textContent !== text) summary.textContent = text;
}

function askToLogIn() {
  banner.hidden = false;
}

async function goOn() {
  if (banner.hidden) return;
  try {
    // First, so that whole files are not sent only to be refused again.
    await get(form.dataset.progress);
  } catch {
    return;
  }
  banner.hidden = true;
  for (const item of items) if (item.state === "expired") item.wait();
  follower.poll();
  sendNext();
}

document.documentElement.classList.add("scripted");
input.multiple = true;
input.onchange = () => {
  add(input.files);
  input.value = "";
};
banner.querySelector("[data-retry]").onclick = goOn;
// A user who comes back from the log-in tab does not have to press anything.
window.addEventListener("focus", goOn);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && goOn());

document.getElementById("photograph").onclick = () => {
  const camera = Object.assign(document.createElement("input"), { type: "file", accept: "image/*" });
  camera.setAttribute("capture", "environment");
  camera.onchange = () => add(camera.files);
  camera.click();
};

document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) {
    event.preventDefault();
    add(event.clipboardData.files);
  }
});
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  form.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || form.classList.remove("over"));
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  form.classList.remove("over");
  add(event.dataTransfer.files);
});
window.addEventListener("beforeunload", (event) => {
  if ([...items].some((item) => ["waiting", "sending", "delayed", "expired"].includes(item.state))) event.preventDefault();
});
for (const reading of document.querySelectorAll("#recent .reading")) watch(reading, reading.parentElement);
