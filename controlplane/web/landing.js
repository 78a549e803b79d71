// SPDX-License-Identifier: Apache-2.0
// The first page: a name, a new meeting, or the way into one.

import { byId, say } from "./dom.js";
import { newRoom, roomOf, roomProblem } from "./names.js";
import { prefer, preferences } from "./store.js";

const HINT = "Small letters, digits and hyphens.";

/** @param {(room: string) => void} go @returns {{show: () => void, hide: () => void}} */
export function startLanding(go) {
  const view = byId("landing", HTMLElement);
  const name = byId("landing-name", HTMLInputElement);
  const room = byId("landing-room", HTMLInputElement);
  const hint = byId("landing-room-hint", HTMLElement);
  const judge = (isFinal = false) => {
    const meant = roomOf(room.value);
    const problem = roomProblem(meant) || (isFinal && meant === "" ? "Enter the name of a room, or a link to it." : "");
    say(hint, problem || (meant !== "" && meant !== room.value.trim() ? `Joins ${meant}` : HINT));
    hint.classList.toggle("bad", problem !== "");
    if (problem === "") room.removeAttribute("aria-invalid");
    else room.setAttribute("aria-invalid", "true");
    return problem === "" ? meant : null;
  };
  room.addEventListener("input", () => judge());
  name.addEventListener("input", () => prefer({ name: name.value.trim() }));
  byId("new-meeting", HTMLButtonElement).addEventListener("click", () => go(newRoom()));
  byId("landing-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const meant = judge(true);
    if (meant === null || meant === "") room.focus();
    else go(meant);
  });
  return {
    show: () => {
      document.title = "Millrace";
      name.value = preferences().name;
      view.hidden = false;
    },
    hide: () => (view.hidden = true),
  };
}
