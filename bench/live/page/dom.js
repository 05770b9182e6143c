// Changes to the document. A value that is already shown is not written again.

export const by = (id) => document.getElementById(id);

export function setText(node, text) {
  if (node.shown === text) return;
  node.shown = text;
  const only = node.childNodes.length === 1 ? node.firstChild : null;
  if (only?.nodeType === Node.TEXT_NODE) only.data = text;
  else node.textContent = text;
}

export function setAttribute(node, name, value) {
  const text = String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

export function setStyle(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// A control shows the server's value. After the user has changed it, it keeps the user's value until the server
// has the same value, the change is refused, or the time is over.
const HOLD_MS = 20000;

export function hold(control) {
  control.heldUntil = performance.now() + HOLD_MS;
}

export function release(control) {
  control.heldUntil = 0;
}

const isHeld = (control) => performance.now() < (control.heldUntil ?? 0);

export function setControl(control, property, value) {
  if (control[property] === value) release(control);
  else if (!isHeld(control)) control[property] = value;
}

export function setChoice(fieldset, value) {
  const radio = fieldset.querySelector(`[value="${value}"]`);
  if (radio.checked) release(fieldset);
  else if (!isHeld(fieldset)) radio.checked = true;
}
