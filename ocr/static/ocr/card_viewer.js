// The picture of a card: zoom by wheel, pinch and keys, drag, turn, fit, and a loupe under the pointer.
// Without this script the whole picture is shown, as large as fits.

const LEAST = 0.5; // of the size at which the picture fits
const MOST = 12;
const STEP = 1.25;
const MOVE = 60; // pixels an arrow key
const LOUPE = 2.5; // times as large as the picture's own pixels, or as shown, whichever is more
const LOUPE_KEY = "ktp-loupe";

const stage = document.querySelector(".desk-stage");
const image = stage?.querySelector("img");

if (image) {
  const tools = document.querySelector(".desk-tools");
  const loupe = stage.querySelector(".desk-loupe");
  const loupeButton = tools.querySelector("[data-view=loupe]");
  const pointers = new Map();
  let view = { size: 1, x: 0, y: 0, quarter: 0 };
  let hasLoupe = localStorage.getItem(LOUPE_KEY) !== "off";

  // At size 1 the whole picture is in view, however it is turned.
  const fitted = () => {
    const isTurned = view.quarter % 2 !== 0;
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const [across, down] = isTurned ? [height, width] : [width, height];
    return Math.min(stage.clientWidth / across, stage.clientHeight / down);
  };

  const draw = () => {
    if (!image.naturalWidth) return;
    const scale = fitted() * view.size;
    image.style.width = `${image.naturalWidth}px`;
    image.style.height = `${image.naturalHeight}px`;
    image.style.transform =
      `translate(-50%, -50%) translate(${view.x}px, ${view.y}px) rotate(${view.quarter * 90}deg) scale(${scale})`;
  };

  const clamp = () => {
    if (!image.naturalWidth) return;
    const room = fitted() * view.size;
    const isTurned = view.quarter % 2 !== 0;
    const [width, height] = isTurned ? [image.naturalHeight, image.naturalWidth] : [image.naturalWidth, image.naturalHeight];
    const [most, highest] = [Math.max(0, (width * room) / 2), Math.max(0, (height * room) / 2)];
    view.x = Math.min(most, Math.max(-most, view.x));
    view.y = Math.min(highest, Math.max(-highest, view.y));
  };

  // The same part of the picture stays under the pointer.
  const zoom = (factor, at = { x: 0, y: 0 }) => {
    const size = Math.min(MOST, Math.max(LEAST, view.size * factor));
    const grown = size / view.size;
    view.x = at.x - (at.x - view.x) * grown;
    view.y = at.y - (at.y - view.y) * grown;
    view.size = size;
    clamp();
    draw();
  };

  const move = (x, y) => {
    view.x += x;
    view.y += y;
    clamp();
    draw();
  };

  const turn = (quarters) => {
    view = { size: 1, x: 0, y: 0, quarter: view.quarter + quarters };
    draw();
  };

  const fit = () => {
    view = { ...view, size: 1, x: 0, y: 0 };
    draw();
  };

  const setLoupe = (isOn) => {
    hasLoupe = isOn;
    localStorage.setItem(LOUPE_KEY, isOn ? "on" : "off");
    loupeButton.setAttribute("aria-pressed", String(isOn));
    if (!isOn) loupe.hidden = true;
  };

  const fromMiddle = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
  };

  // The part of the picture under the pointer, turned as the picture is.
  const showLoupe = (event) => {
    if (!hasLoupe || event.pointerType !== "mouse" || pointers.size || !image.naturalWidth) {
      loupe.hidden = true;
      return;
    }
    const at = fromMiddle(event);
    const scale = fitted() * view.size;
    const angle = (view.quarter * Math.PI) / 2;
    const [dx, dy] = [(at.x - view.x) / scale, (at.y - view.y) / scale];
    const x = dx * Math.cos(angle) + dy * Math.sin(angle) + image.naturalWidth / 2;
    const y = -dx * Math.sin(angle) + dy * Math.cos(angle) + image.naturalHeight / 2;
    const isOutside = x < 0 || y < 0 || x > image.naturalWidth || y > image.naturalHeight;
    loupe.hidden = isOutside;
    if (isOutside) return;
    const context = loupe.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, loupe.width, loupe.height);
    context.translate(loupe.width / 2, loupe.height / 2);
    context.rotate(angle);
    const larger = Math.max(scale * LOUPE, 1);
    context.scale(larger, larger);
    context.drawImage(image, -x, -y);
    const isLow = at.y > 0;
    const [left, top] = [at.x + stage.clientWidth / 2, at.y + stage.clientHeight / 2];
    loupe.style.left = `${Math.min(Math.max(0, left - loupe.width / 2), stage.clientWidth - loupe.width)}px`;
    loupe.style.top = `${isLow ? top - loupe.height - 24 : top + 24}px`;
  };

  const spread = () => {
    const [first, second] = [...pointers.values()];
    return Math.hypot(first.x - second.x, first.y - second.y);
  };

  const middle = () => {
    const [first, second] = [...pointers.values()];
    return { x: (first.x + second.x) / 2, y: (first.y + second.y) / 2 };
  };

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? STEP : 1 / STEP, fromMiddle(event));
    showLoupe(event);
  }, { passive: false });

  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, fromMiddle(event));
    loupe.hidden = true;
  });

  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      showLoupe(event);
      return;
    }
    const now = fromMiddle(event);
    if (pointers.size === 2) {
      const distance = spread();
      pointers.set(event.pointerId, now);
      zoom(spread() / (distance || 1), middle());
    } else {
      pointers.set(event.pointerId, now);
      move(now.x - before.x, now.y - before.y);
    }
  });

  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
  stage.addEventListener("pointerleave", () => { loupe.hidden = true; });
  stage.addEventListener("dblclick", fit);

  const actions = {
    left: () => turn(-1),
    right: () => turn(1),
    in: () => zoom(STEP),
    out: () => zoom(1 / STEP),
    fit,
    loupe: () => setLoupe(!hasLoupe),
  };
  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, 0: fit,
    l: actions.left, r: actions.right, m: actions.loupe,
    ArrowLeft: () => move(MOVE, 0), ArrowRight: () => move(-MOVE, 0),
    ArrowUp: () => move(0, MOVE), ArrowDown: () => move(0, -MOVE),
  };

  tools.addEventListener("click", (event) => actions[event.target.closest("button")?.dataset.view]?.());
  stage.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key] ?? keys[event.key.toLowerCase()];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  tools.hidden = false;
  stage.classList.add("desk-live");
  setLoupe(hasLoupe);
  image.addEventListener("load", draw);
  new ResizeObserver(() => { clamp(); draw(); }).observe(stage);
  draw();
}
