// The page of one reading: it follows the reading to its end, checks values as they are typed, and never loses one.
import { csrfToken, filled, get, LoggedOut, post } from "./asking.js";
import { Follower, written } from "./following.js";

const TYPING_MILLISECONDS = 350;
const waiting = document.getElementById("waiting");
const form = document.getElementById("values");
const banner = document.getElementById("log-in-again");

document.documentElement.classList.add("scripted");

if (waiting) {
  const { reading, events, progress, place: placeText } = waiting.dataset;
  new Follower(progress, {
    onText: (id, text) => (waiting.querySelector(".live").textContent = written(text).join("\n")),
    onPlace: (id, place) => (waiting.querySelector(".place").textContent = place ? filled(placeText, { place }) : ""),
    onEnd: () => location.reload(),
    onLoggedOut: () => (banner.hidden = false),
  }).add(reading, events);
}

if (form) {
  let timer = null;
  let number = 0;

  const check = async () => {
    const mine = ++number;
    const ticked = new Set([...form.querySelectorAll("input[name=confirm]:checked")].map((box) => box.value));
    try {
      const { fields } = await (await post(form.dataset.check, new FormData(form))).json();
      if (mine !== number) return; // Something was typed since.
      banner.hidden = true;
      for (const [column, { html, worst }] of Object.entries(fields)) {
        const row = document.getElementById(`field-${column}`);
        const notes = row.querySelector(".notes");
        row.className = `row ${worst}`;
        // A masked value has no input until it is revealed.
        row.querySelector("input[type=text]")?.setAttribute("aria-invalid", String(worst === "error"));
        if (notes.dataset.html === html) continue;
        notes.dataset.html = html;
        notes.innerHTML = html;
        for (const box of notes.querySelectorAll("input[name=confirm]")) box.checked = ticked.has(box.value);
      }
    } catch (problem) {
      if (problem instanceof LoggedOut) banner.hidden = false;
      // Otherwise the values are checked when they are saved.
    }
  };

  form.addEventListener("input", (event) => {
    if (event.target.type !== "text") return;
    clearTimeout(timer);
    timer = setTimeout(check, TYPING_MILLISECONDS);
  });

  // In the whole page, because other users' changes are shown above the form.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.suggestion");
    if (!button) return;
    const input = form.elements[button.dataset.field];
    input.value = button.dataset.value;
    input.focus();
    check();
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { submitter } = event;
    try {
      await get(form.dataset.progress);
    } catch (problem) {
      if (problem instanceof LoggedOut) {
        banner.hidden = false;
        banner.scrollIntoView({ block: "nearest" });
        banner.querySelector("a").focus();
        return;
      }
      // The form itself will say what is wrong.
    }
    form.elements.csrfmiddlewaretoken.value = csrfToken();
    const action = Object.assign(document.createElement("input"), { type: "hidden", name: "action", value: submitter?.value ?? "save" });
    form.append(action);
    HTMLFormElement.prototype.submit.call(form);
  });
}
