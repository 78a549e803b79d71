// SPDX-License-Identifier: Apache-2.0
// The page's own elements, by their ids, with their types checked once. An absent one is a mistake in index.html.

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return found;
}

/**
 * @template {Element} T
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => T} kind
 * @returns {T}
 */
export function within(parent, selector, kind) {
  const found = parent.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`there is no ${kind.name} at ${selector}`);
  return found;
}

/** @param {string} name of a symbol in icons.svg @param {string} [extra] class @returns {SVGSVGElement} */
export function icon(name, extra = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `icon ${extra}`.trim());
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/**
 * Gives a button its icon and its words (for screen readers and as a tooltip), and touches it only where they differ, so
 * that focus and a tooltip that is shown stay.
 *
 * @param {HTMLButtonElement} button
 * @param {{icon: string, label: string, key?: string}} looks
 */
export function dress(button, looks) {
  const mark = `${looks.icon}|${looks.label}`;
  if (button.dataset.looks === mark) return;
  button.dataset.looks = mark;
  button.replaceChildren(icon(looks.icon));
  button.setAttribute("aria-label", looks.label);
  button.dataset.tip = looks.key === undefined ? looks.label : `${looks.label} (${looks.key})`;
  if (looks.key !== undefined) button.setAttribute("aria-keyshortcuts", looks.key);
}

/** @param {HTMLElement} element @param {string} text sets it only when it differs: a live region is not read twice */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Copies to the clipboard, also where the clipboard's interface is missing (a page without https).
 *
 * @param {string} text
 * @returns {Promise<boolean>}
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "unseen";
    const host = document.querySelector("dialog[open]") ?? document.body;
    const focused = document.activeElement;
    host.append(field);
    field.select();
    const isDone = document.execCommand("copy");
    field.remove();
    if (focused instanceof HTMLElement) focused.focus();
    return isDone;
  }
}

/**
 * Says on a button for a moment that something was copied.
 *
 * @param {HTMLButtonElement} button with a `span` for its words
 * @param {string} text
 */
export async function copyFrom(button, text) {
  const words = within(button, "span", HTMLSpanElement);
  const before = button.dataset.words ?? words.textContent ?? "";
  button.dataset.words = before;
  words.textContent = (await copy(text)) ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (words.textContent = before), 2000);
}
