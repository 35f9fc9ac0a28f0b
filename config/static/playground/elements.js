/** Makes DOM nodes. Text is only ever text: nothing here reads HTML. */

/**
 * An element with attributes, listeners (`onclick` and the like, functions) and children.
 * `true` is an attribute without a value; `false`, `null` and `undefined` leave it out.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A button that submits nothing. */
export function button(label, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, label);
}

/** Sets a node's text only where it differs, so that nothing is read out or drawn again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
