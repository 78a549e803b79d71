// SPDX-License-Identifier: Apache-2.0
// Short messages that go by themselves. They stand in a live region: screen readers read them out.

const STAY_MS = 4500;
const MOST = 4;

/** @param {HTMLElement} host @param {string} text @param {string} [tone] `bad` for what went wrong */
export function toast(host, text, tone = "") {
  const element = document.createElement("p");
  element.className = `toast ${tone}`.trim();
  element.textContent = text;
  host.append(element);
  while (host.childElementCount > MOST) host.firstElementChild?.remove();
  setTimeout(() => element.classList.add("going"), STAY_MS);
  setTimeout(() => element.remove(), STAY_MS + 300);
}
