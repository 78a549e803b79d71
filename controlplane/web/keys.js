// SPDX-License-Identifier: Apache-2.0
// Keyboard shortcuts of a meeting, and the dialog that lists them.

import { byId } from "./dom.js";

/**
 * @typedef {{key: string, does: string, run: () => void}} Shortcut
 */

/**
 * @param {Shortcut[]} shortcuts
 * @param {() => boolean} isActive
 */
export function startKeys(shortcuts, isActive) {
  const list = byId("keys-list", HTMLElement);
  for (const { key, does } of shortcuts) {
    const term = document.createElement("dt");
    const cap = document.createElement("kbd");
    cap.textContent = key;
    term.append(cap);
    const meaning = document.createElement("dd");
    meaning.textContent = does;
    list.append(term, meaning);
  }
  addEventListener("keydown", (event) => {
    if (!isActive() || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    // While a dialog is open, or somebody types or chooses, letters are letters.
    if (document.querySelector("dialog[open]") !== null) return;
    if (event.target instanceof Element && event.target.closest("input, select, textarea") !== null) return;
    const pressed = event.key === "Escape" ? "Esc" : event.key.toLowerCase();
    const shortcut = shortcuts.find(({ key }) => key === pressed);
    if (shortcut === undefined) return;
    event.preventDefault();
    shortcut.run();
  });
}

/** Dialogs close with their cross, and with a click beside them. */
export function startDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      const isCross = event.target instanceof Element && event.target.closest("[data-close]") !== null;
      if (isCross || event.target === dialog) dialog.close();
    });
  }
}
