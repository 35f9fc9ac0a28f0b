/** The playground: ties the chats, the page and the server together. */

import { health } from "./api.js";
import { Announcer } from "./announcer.js";
import { Chats } from "./chats.js";
import { Composer } from "./composer.js";
import { copyText } from "./copying.js";
import { askForKey, confirmRemoval, prepareDialogs, showCode } from "./dialogs.js";
import { el, setText } from "./elements.js";
import { forgetPreviews } from "./files.js";
import * as key from "./key.js";
import { config, day, t } from "./page.js";
import { LineBar } from "./linebar.js";
import { Parameters } from "./parameters.js";
import { openStore } from "./store.js";
import { TurnView } from "./turn.js";

const TITLE_LENGTH = 60;
const NEAR_END_PX = 120;
const HEALTH_MS = 15_000;
const LOADING_MS = 3_000;

const find = (selector) => document.querySelector(selector);
const page = {
  root: find("#playground"),
  turns: find("#turns"),
  welcome: find("#welcome"),
  list: find("#chat-list"),
  head: find("#chat-head"),
  title: find("#chat-title"),
  side: find("#chats"),
  sideButton: find("#show-chats"),
  model: find("#model-state"),
  keyButton: find("#forget-key"),
};
const announcer = new Announcer(find("#announcer"));
const store = await openStore();
const chats = new Chats(store, { changed, refused: onRefused });
const parameters = new Parameters(find("#parameters-dialog form"), find("#parameters-count"), (values) => chats.keepParameters(values));
const composer = new Composer(find("#composer"), { onSend: send, onStop: () => chats.runningTurn && chats.stop(chats.runningTurn) });
const end = followTheEnd();
const lineBar = new LineBar(find("#line"), chats);
let views = new Map();

const actions = {
  drawn: () => end.stay(),
  regenerate: (turn) => again(turn, {}),
  edit: (turn, text) => again(turn, { text }),
  showCode: (turn) => showCode(chats.turns.slice(0, chats.turns.indexOf(turn) + 1), turn.answer?.parameters ?? parameters.read()),
  copy: (text, pressed) => copyText(text, pressed, pressed.closest("figure, .answer")?.querySelector("pre, .markdown")),
};

// --- What people do ---------------------------------------------------------------------------------------------------

async function send({ text, files, parameters: own }) {
  if (!(await hasKey())) return;
  const title = text.split("\n")[0].slice(0, TITLE_LENGTH) || files[0].name;
  await chats.ask({ text, files, title, parameters: own ?? parameters.read() });
  announcer.say(t("answerBegins"));
  end.go();
}

async function again(turn, changes) {
  if (chats.runningTurn || !(await hasKey())) return;
  await chats.askAgain(turn, { ...changes, parameters: isReading(turn) ? turn.answer.parameters : parameters.read() });
}

/** A specimen is read as the KTP page would, whatever the parameters are. */
const isReading = (turn) => turn.text === config.reading.prompt && turn.answer;

async function tryCard(card) {
  const blob = await (await fetch(card.url)).blob();
  await select(null);
  await send({
    text: config.reading.prompt,
    files: [{ name: card.file, type: "image/jpeg", blob }],
    parameters: config.reading.parameters,
  });
  await chats.rename(card.title);
}

async function select(id) {
  await chats.select(id);
  parameters.write(chats.open?.parameters);
  showSide(false);
}

async function hasKey() {
  const has = !config.needsKey || key.read() || (await askForKey());
  page.keyButton.hidden = !key.read();
  return Boolean(has);
}

async function onRefused() {
  const problem = key.read() ? t("wrongKey") : "";
  key.forget();
  page.keyButton.hidden = true;
  if (await askForKey(problem)) {
    page.keyButton.hidden = false;
    await chats.goOn();
  }
}

function showSide(isShown) {
  page.side.classList.toggle("shown", isShown);
  page.sideButton.setAttribute("aria-expanded", String(isShown));
}

// --- What the page shows ----------------------------------------------------------------------------------------------

function changed(what, answer) {
  if (what === "chats") showList();
  else if (what === "turns") showTurns();
  else showAnswer(what, answer);
}

function showList() {
  page.list.replaceChildren(
    ...chats.list.map((chat) =>
      el(
        "li",
        {},
        el(
          "button",
          { type: "button", onclick: () => select(chat.id), "aria-current": chat === chats.open ? "page" : null },
          el("span", { class: "name" }, chat.title),
          el("span", { class: "when" }, day(chat.changedAt)),
        ),
      ),
    ),
  );
  // So that a page that is loaded again shows the same chat.
  history.replaceState(null, "", chats.open ? `#${chats.open.id}` : location.pathname);
  page.head.hidden = !chats.open;
  if (chats.open && document.activeElement !== page.title) page.title.value = chats.open.title;
  document.title = chats.open ? `${chats.open.title} · Sambung` : "Sambung";
}

function showTurns() {
  forgetPreviews(page.turns);
  views = new Map(chats.turns.map((turn) => [turn.id, new TurnView(turn, actions)]));
  page.turns.replaceChildren(...[...views.values()].map((view) => view.node));
  page.welcome.hidden = chats.turns.length > 0;
  for (const view of views.values()) view.update();
  showRunning();
}

function showAnswer(what, answer) {
  const view = views.get(answer.turn);
  if (!view) return;
  view.update();
  showRunning();
  if (what === "answer" && answer.state === "running") announcer.grow(answer);
  else if (what === "answer") announcer.say(t(`announce_${answer.state}`));
}

/** The page follows the end of the answer until the user scrolls up. */
function followTheEnd() {
  let isFollowing = true;
  const toEnd = () => scrollTo({ top: document.documentElement.scrollHeight });
  addEventListener("scroll", () => {
    isFollowing = document.documentElement.scrollHeight - scrollY - innerHeight < NEAR_END_PX;
  });
  return {
    stay: () => isFollowing && toEnd(),
    go: () => {
      isFollowing = true;
      toEnd();
    },
  };
}

/** The answer that runs, and its line, whose seconds until the next try count down. */
function showRunning() {
  const turn = chats.runningTurn;
  composer.setRunning(Boolean(turn));
  lineBar.show(turn, turn && chats.lines.get(turn.id));
}

async function showHealth() {
  let next = HEALTH_MS;
  if (!document.hidden) {
    try {
      const { ok, modelReady, error, progress } = await health();
      page.model.dataset.is = modelReady ? "ready" : "waiting";
      setText(page.model, modelReady ? t("modelReady") : (error ?? progress ?? t("modelLoading")));
      if (!ok || !modelReady) next = LOADING_MS;
    } catch {
      page.model.dataset.is = "away";
      setText(page.model, t("serverAway"));
      next = LOADING_MS;
    }
  }
  setTimeout(showHealth, next);
}

// --- The beginning ----------------------------------------------------------------------------------------------------

prepareDialogs();
find("#new-chat").addEventListener("click", async () => {
  await select(null);
  composer.focus();
});
page.sideButton.addEventListener("click", () => showSide(!page.side.classList.contains("shown")));
document.addEventListener("keydown", (event) => event.key === "Escape" && showSide(false));
find("#show-parameters").addEventListener("click", () => find("#parameters-dialog").showModal());
page.title.addEventListener("change", () => chats.open && page.title.value.trim() && chats.rename(page.title.value.trim()));
find("#remove-chat").addEventListener("click", async () => {
  if (await confirmRemoval(chats.open.title)) {
    await chats.removeOpen();
    await select(null);
    composer.focus();
  }
});
page.keyButton.addEventListener("click", () => {
  key.forget();
  page.keyButton.hidden = true;
});
for (const [place, card] of config.cards.entries()) {
  find(`#card-${place}`).addEventListener("click", () => tryCard(card));
}
addEventListener("pagehide", () => chats.saveRunning());
setInterval(showRunning, 500);
find("#not-kept").hidden = store.isKept;
page.keyButton.hidden = !key.read();

const asked = location.hash.slice(1);
await chats.load();
await select(asked);
addEventListener("hashchange", () => select(location.hash.slice(1)));
await chats.goOn();
showHealth();
page.root.dataset.ready = "";
