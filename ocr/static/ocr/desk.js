// The keyboard of the review desk. All rules are on the server: this script moves the focus and presses buttons.
// Without it the page is a form whose Enter key does nothing.

import { csrfToken } from "./asking.js";

const form = document.getElementById("desk-form");
const fields = form.querySelector(".desk-fields");
const approve = form.querySelector("[data-key=approve]");
const revealer = form.querySelector("[data-key=reveal]");
const stage = form.querySelector(".desk-stage");
const FOCUSABLE = "input:not([type=hidden]):not(:disabled), .desk-value[tabindex]";

// A row is a field with its flags, or a flag of the whole reading. Rows that were flagged when the page was loaded come
// first; the order must not change while the user types.
const rows = [...fields.querySelectorAll(":scope > .desk-row, :scope > .desk-flag")];
const isFlagged = (row) => row.matches(".desk-open, .desk-clash, .desk-flag:not(.desk-confirmed)");
const ordered = [...rows.filter(isFlagged), ...rows.filter((row) => !isFlagged(row))];
const stops = () => ordered.flatMap((row) => [...row.querySelectorAll(FOCUSABLE)]);
const rowOf = (element) => rows.find((row) => row.contains(element));
const boxes = (row) => [...row.querySelectorAll("input[name=confirm]")];
const isEdited = (row) => [...row.querySelectorAll("input[type=text]")].some((input) => input.value !== input.defaultValue);

// What the server would require.
const isUnanswered = (row) => {
  const radios = [...row.querySelectorAll("input[type=radio]")];
  if (radios.length) return !radios.some((radio) => radio.checked);
  return !isEdited(row) && boxes(row).some((box) => !box.checked);
};

const focus = (element) => {
  if (!element) return;
  element.focus();
  if (element.matches("input[type=text]")) element.setSelectionRange(element.value.length, element.value.length);
  element.closest(".desk-row, .desk-flag")?.scrollIntoView({ block: "nearest" });
};
const enter = (row) => focus(row?.querySelector(FOCUSABLE));

const panels = [...form.querySelectorAll(".desk-panel")];
const openPanel = () => panels.find((panel) => panel.open);
let returnTo = null;

const enterPanel = (panel) => {
  for (const other of panels) if (other !== panel) other.open = false;
  (panel.querySelector("input, textarea") ?? panel.querySelector("summary")).focus();
};

const show = (name) => {
  const panel = panels.find((candidate) => candidate.dataset.panel === name);
  if (!panel) return;
  returnTo ??= document.activeElement;
  panel.open = true;
  // At once, because the next key may be the number of a reason and must not be typed into a field.
  enterPanel(panel);
};
const close = () => {
  const panel = openPanel();
  if (!panel) return;
  panel.open = false;
  (returnTo?.isConnected ? returnTo : panel.querySelector("summary")).focus();
  returnTo = null;
};

for (const panel of panels) {
  panel.addEventListener("toggle", () => {
    if (panel.open && !panel.contains(document.activeElement)) enterPanel(panel);
  });
}

const expired = document.getElementById("desk-log-in");
const away = document.getElementById("desk-away");

// "yes", "no", or "unknown" while the server does not answer.
const isLoggedIn = async () => {
  try {
    const response = await fetch(form.dataset.loggedIn, { redirect: "manual", cache: "no-store" });
    return response.type === "opaqueredirect" || response.status === 403 ? "no" : "yes";
  } catch {
    return "unknown";
  }
};

const tell = (answer) => {
  expired.hidden = answer !== "no";
  away.hidden = answer !== "unknown";
  if (!expired.hidden) expired.querySelector("a").focus();
};

// Puts NIK and date of birth into the page without loading a new one, so that picture, zoom and typed values stay. False
// if the server answers something else; the form itself is then sent.
const reveal = async () => {
  let page;
  try {
    const body = new FormData(form, revealer);
    body.set("csrfmiddlewaretoken", csrfToken());
    const response = await fetch(form.action, { method: "POST", body, cache: "no-store" });
    page = response.ok ? new DOMParser().parseFromString(await response.text(), "text/html").getElementById("desk-form") : null;
  } catch {
    return false;
  }
  if (page?.elements.version.value !== form.elements.version.value) return false;
  for (const row of rows.filter((each) => each.matches("[data-masked]"))) {
    const fresh = page.querySelector(`.desk-row[data-field="${row.dataset.field}"]`);
    const ticked = boxes(row).filter((box) => box.checked).map((box) => box.value);
    row.replaceChildren(...fresh.childNodes);
    for (const box of boxes(row)) box.checked = ticked.includes(box.value);
    row.removeAttribute("data-masked");
  }
  const history = form.querySelector("[data-panel=history] > div");
  history?.replaceChildren(...page.querySelector("[data-panel=history] > div").childNodes);
  revealer.closest(".desk-reveal").hidden = true;
  enter(ordered.find(isUnanswered) ?? ordered[0]);
  return true;
};
const isMasked = () => Boolean(revealer) && !revealer.closest(".desk-reveal").hidden;
const askReveal = () => isMasked() && form.requestSubmit(revealer);

// Sends the form only if the server will accept it, so that nothing typed is lost. A second press meanwhile does nothing.
let state = "typing";
form.addEventListener("submit", async (event) => {
  if (state === "checked") {
    state = "sent";
    return;
  }
  event.preventDefault();
  if (state !== "typing") return;
  const { submitter } = event;
  state = "asking";
  if (submitter === revealer && (await reveal())) {
    state = "typing";
    return;
  }
  const answer = await isLoggedIn();
  tell(answer);
  if (answer !== "yes") {
    state = "typing";
    return;
  }
  // A log-in in another tab has changed it.
  form.elements.csrfmiddlewaretoken.value = csrfToken();
  state = "checked";
  form.requestSubmit(submitter);
});
addEventListener("pageshow", () => { state = "typing"; });
document.addEventListener("visibilitychange", async () => {
  if (!document.hidden && !(expired.hidden && away.hidden)) tell(await isLoggedIn());
});

const decide = () => {
  const panel = openPanel();
  const button = panel?.querySelector("button[type=submit]");
  if (button) {
    form.requestSubmit(button);
    return;
  }
  if (!approve) return;
  // A person must compare them with the picture before approving.
  if (isMasked()) {
    askReveal();
    return;
  }
  const open = ordered.find(isUnanswered);
  if (open) {
    open.classList.add("desk-asked");
    enter(open);
  } else {
    form.requestSubmit(approve);
  }
};

const confirmRow = () => {
  const row = rowOf(document.activeElement) ?? ordered.find(isUnanswered);
  if (!row) return;
  // A value that is not shown cannot be confirmed.
  if (row.matches("[data-masked]")) {
    askReveal();
    return;
  }
  for (const box of boxes(row)) if (!box.disabled) box.checked = true;
  row.classList.remove("desk-asked");
  enter(ordered.find(isUnanswered) ?? row);
};

const moveOn = (element, isBack) => {
  const all = stops();
  const next = all[all.indexOf(element) + (isBack ? -1 : 1)];
  if (next) focus(next);
  return Boolean(next);
};

const pick = (digit) => {
  const radio = openPanel()?.querySelectorAll("input[name=reason]")[digit - 1];
  if (!radio) return false;
  radio.checked = true;
  if (radio.value === "other") document.getElementById("desk-note").focus();
  else radio.focus();
  return true;
};

const switchPane = () => {
  if (!stage) return;
  if (stage.contains(document.activeElement)) enter(ordered[0]);
  else stage.focus();
};

const plain = {
  F1: () => (openPanel()?.dataset.panel === "help" ? close() : show("help")),
  F2: confirmRow,
  F3: askReveal,
  F6: switchPane,
  F8: () => show("unclear"),
  F9: () => show("reject"),
  Escape: close,
};

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.isComposing) return;
  if ((event.ctrlKey || event.metaKey) && key === "Enter") {
    event.preventDefault();
    if (!event.repeat) decide();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (plain[key] && !event.repeat) {
    event.preventDefault();
    plain[key]();
    return;
  }
  const isTyping = target.matches("textarea, input[type=text]");
  if (openPanel()?.dataset.panel === "reject" && !isTyping && /^[1-9]$/.test(key)) {
    if (pick(Number(key))) event.preventDefault();
    return;
  }
  if (!fields.contains(target)) return;
  if (key === "Enter" && target.matches("input")) {
    event.preventDefault();
    enter(ordered[ordered.indexOf(rowOf(target)) + 1]);
  } else if (key === "Tab" && stops().includes(target)) {
    if (moveOn(target, event.shiftKey)) {
      event.preventDefault();
    } else if (!event.shiftKey) {
      event.preventDefault();
      form.querySelector(".desk-bar button, .desk-bar summary").focus();
    }
  }
});

fields.addEventListener("input", (event) => {
  const row = rowOf(event.target);
  if (!row || !event.target.matches("input[type=text]")) return;
  const edited = isEdited(row);
  row.classList.toggle("desk-edited", edited);
  for (const box of boxes(row)) {
    // The flag was about the earlier value; the server checks the new one.
    box.disabled = edited;
    if (edited) box.checked = false;
  }
});

if (openPanel()) enterPanel(openPanel());
else if (isMasked()) revealer.focus();
else enter(ordered.find(isUnanswered) ?? ordered[0]);
