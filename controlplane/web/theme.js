// SPDX-License-Identifier: Apache-2.0
// Light or dark: as the system says, or as the person does.

import { dress } from "./dom.js";
import { prefer, preferences } from "./store.js";

const LOOKS = /** @type {const} */ ({
  auto: { icon: "auto", label: "Appearance: as the system" },
  light: { icon: "sun", label: "Appearance: light" },
  dark: { icon: "moon", label: "Appearance: dark" },
});
/** @typedef {keyof typeof LOOKS} Theme */

const ORDER = /** @type {Theme[]} */ (Object.keys(LOOKS));

/** @returns {Theme} */
function current() {
  const { theme } = preferences();
  return ORDER.find((one) => one === theme) ?? "auto";
}

/** @param {Theme} theme */
function apply(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/**
 * @param {HTMLButtonElement} button goes through all three
 * @param {HTMLSelectElement} select names them
 */
export function startTheme(button, select) {
  const show = () => {
    const theme = current();
    apply(theme);
    dress(button, LOOKS[theme]);
    select.value = theme;
  };
  const choose = (/** @type {string} */ theme) => {
    prefer({ theme });
    show();
  };
  button.addEventListener("click", () => choose(ORDER[(ORDER.indexOf(current()) + 1) % ORDER.length] ?? "auto"));
  select.addEventListener("change", () => choose(select.value));
  show();
}
