/* Makes the children of one element equal to those of another and changes only what differs: a button keeps the focus,
   and a click that has begun ends on the same button. Rows are identified by data-key. What stays is never moved unless
   its order has changed, because an element that is moved loses the focus. */

export function morph(target, source) {
  const wantedKeys = new Set([...source.children].map(keyOf));
  const keyed = new Map();
  for (const child of [...target.children]) {
    if (!keyOf(child)) continue;
    if (wantedKeys.has(keyOf(child))) keyed.set(keyOf(child), child);
    else child.remove();
  }
  let place = target.firstChild;
  for (const wanted of source.childNodes) {
    const kept = keyOf(wanted) ? keyed.get(keyOf(wanted)) : alike(place, wanted);
    if (!kept) {
      target.insertBefore(document.importNode(wanted, true), place);
      continue;
    }
    while (place !== kept && place && !keyOf(place)) place = removed(place);
    if (place === kept) place = kept.nextSibling;
    else target.insertBefore(kept, place);
    update(kept, wanted);
  }
  while (place) place = removed(place);
}

function keyOf(node) {
  return node.dataset?.key;
}

/* The node that `wanted` can be made of: at the place, or for an element the next one of its kind. */
function alike(place, wanted) {
  let node = place;
  while (node && (node.nodeName !== wanted.nodeName || keyOf(node))) {
    if (wanted.nodeType !== Node.ELEMENT_NODE) return null;
    node = node.nextSibling;
  }
  return node;
}

function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function update(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  for (const { name } of [...node.attributes]) if (!wanted.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  morph(node, wanted);
}
