// SPDX-License-Identifier: Apache-2.0
// The list of participants.

import { icon, say } from "./dom.js";
import { hueOf, initials } from "./names.js";
import { trackOf } from "./roster.js";

/**
 * @typedef {{id: string, name: string, note: string, isMicOn: boolean, isCamOn: boolean, isSharing: boolean, isSpeaking: boolean}} Row
 */

/** @param {import("./meeting.js").Meeting} meeting @param {import("./local_media.js").LocalMedia} media @returns {Row[]} */
export function rowsOf(meeting, media) {
  const others = meeting.roster.participants.map((one) => {
    const microphone = trackOf(one, "microphone");
    const camera = trackOf(one, "camera");
    return {
      id: one.id,
      name: one.name,
      note: one.state === "lost" ? "connection lost" : one.state === "joining" ? "joining" : "",
      isMicOn: microphone !== undefined && !microphone.muted,
      isCamOn: camera !== undefined && !camera.muted,
      isSharing: trackOf(one, "screen") !== undefined,
      isSpeaking: meeting.speakers.has(one.id),
    };
  });
  const self = {
    id: "self",
    name: meeting.name,
    note: "you",
    isMicOn: media.microphone !== null && media.isMicOn,
    isCamOn: media.camera !== null,
    isSharing: media.screen !== null,
    isSpeaking: meeting.speakers.has(meeting.self),
  };
  return [self, ...others];
}

/** @param {HTMLElement} list @param {HTMLElement} count @param {Row[]} rows */
export function showPeople(list, count, rows) {
  say(count, String(rows.length));
  const mark = JSON.stringify(rows);
  if (list.dataset.mark === mark) return;
  list.dataset.mark = mark;
  list.replaceChildren(...rows.map(rowElement));
}

/** @param {Row} row */
function rowElement(row) {
  const item = document.createElement("li");
  item.dataset.testid = `person-${row.id}`;
  item.classList.toggle("speaking", row.isSpeaking);
  const avatar = span("avatar", initials(row.name));
  avatar.setAttribute("aria-hidden", "true");
  avatar.style.setProperty("--hue", String(hueOf(row.name)));
  const who = span("who", "");
  who.append(span("who-name", row.name));
  if (row.note !== "") who.append(span("who-note", row.note));
  const states = span("states", "");
  if (row.isSharing) states.append(state("screen", "shares a screen", true));
  states.append(state(row.isCamOn ? "cam" : "cam-off", row.isCamOn ? "camera on" : "camera off", row.isCamOn));
  states.append(state(row.isMicOn ? "mic" : "mic-off", row.isMicOn ? "microphone on" : "muted", row.isMicOn));
  item.append(avatar, who, states);
  return item;
}

/** @param {string} name @param {string} words @param {boolean} isOn */
function state(name, words, isOn) {
  const element = span(isOn ? "state on" : "state", "");
  element.append(icon(name, "small"), span("unseen", `${words} `));
  return element;
}

/** @param {string} className @param {string} text */
function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}
