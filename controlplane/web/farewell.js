// SPDX-License-Identifier: Apache-2.0
// After a meeting: why it ended here, and the way back.

import { byId, say } from "./dom.js";
import { endWords } from "./messages.js";

/** @param {(room: string) => void} rejoin @returns {{show: (room: string, reason: string) => void, hide: () => void}} */
export function startFarewell(rejoin) {
  const view = byId("farewell", HTMLElement);
  const button = byId("rejoin", HTMLButtonElement);
  let last = "";
  button.addEventListener("click", () => rejoin(last));
  return {
    show: (room, reason) => {
      last = room;
      const words = endWords(reason);
      document.title = `${words.title} – Millrace`;
      say(byId("farewell-title", HTMLElement), words.title);
      say(byId("farewell-text", HTMLElement), words.text || room);
      byId("farewell-icon", SVGUseElement).setAttribute("href", `/icons.svg#${words.icon}`);
      view.dataset.reason = reason;
      say(button, words.action);
      view.hidden = false;
      byId("farewell-title", HTMLElement).focus();
    },
    hide: () => (view.hidden = true),
  };
}
