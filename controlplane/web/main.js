// SPDX-License-Identifier: Apache-2.0
// Which view is shown: landing at `/`, prejoin and the meeting at `/r/<room>`, farewell after it.

import { byId } from "./dom.js";
import { startFarewell } from "./farewell.js";
import { startDialogs } from "./keys.js";
import { startLanding } from "./landing.js";
import { wakeAudio } from "./level.js";
import { LocalMedia } from "./local_media.js";
import { detail, Meeting } from "./meeting.js";
import { isRoom, roomOfPath } from "./names.js";
import { hasWebRtc } from "./peer.js";
import { Prejoin } from "./prejoin.js";
import { RequestError } from "./protocol.js";
import { Room } from "./room.js";
import { meetingUnderWay } from "./store.js";
import { startTheme } from "./theme.js";

const entrance = byId("entrance", HTMLElement);
const media = new LocalMedia();
/** @type {Meeting | null} */
let meeting = null;

startTheme(byId("theme", HTMLButtonElement), byId("settings-theme", HTMLSelectElement));
startDialogs();
const landing = startLanding((room) => visit(`/r/${room}`));
const farewell = startFarewell(() => route(true));
const prejoin = new Prejoin(media, enter);
const room = new Room(media, () => void leave());

/** @param {string} path */
function visit(path) {
  history.pushState(null, "", path);
  void route();
}

function hideAll() {
  landing.hide();
  prejoin.hide();
  farewell.hide();
  room.hide();
  entrance.hidden = false;
}

/** Shows what the address says. @param {boolean} [isAgain] after a meeting: never resumes */
async function route(isAgain = false) {
  if (meeting !== null) await leave(false);
  hideAll();
  const wanted = roomOfPath(location.pathname);
  if (wanted === null) {
    media.stop();
    landing.show();
    return;
  }
  const under = meetingUnderWay();
  if (!isAgain && under?.room === wanted && (await resume(under))) return;
  prejoin.show(wanted, tokenOfLink());
  if (!hasWebRtc()) prejoin.refuse(new RequestError("no_webrtc", ""));
}

/** A token in the link's fragment never reaches a server's log; it is taken out of the address. @returns {string} */
function tokenOfLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  if (token !== "") history.replaceState(null, "", location.pathname);
  return token;
}

/**
 * Goes on with the meeting of a page that was reloaded.
 *
 * @param {import("./store.js").Meeting} under
 * @returns {Promise<boolean>}
 */
async function resume(under) {
  if (!isRoom(under.room) || !hasWebRtc()) return false;
  // The devices come when they are there; the others are seen and heard meanwhile.
  const opened = media.start();
  try {
    await enter(under.room, { name: under.name, token: "", isListener: false }, under.resume);
  } catch {
    return false;
  }
  void opened;
  return true;
}

/**
 * @param {string} name of the room
 * @param {import("./prejoin.js").Entry} entry
 * @param {string} [token] to resume with
 */
async function enter(name, entry, token) {
  if (!hasWebRtc()) throw new RequestError("no_webrtc", "");
  if (entry.isListener) {
    media.stop();
    media.isMicOn = media.isCamOn = false;
  }
  const next = new Meeting({ room: name, name: entry.name, token: entry.token, resume: token }, media);
  next.addEventListener("ended", (event) => ended(next, detail(event).reason));
  await next.join();
  meeting = next;
  hideAll();
  entrance.hidden = true;
  room.show(next);
}

/** @param {boolean} [isShown] whether the page after a meeting comes */
async function leave(isShown = true) {
  const last = meeting;
  meeting = null;
  media.stop();
  if (isShown && last !== null) {
    hideAll();
    farewell.show(last.room, "left");
  }
  await last?.leave();
}

/** @param {Meeting} which @param {string} reason */
function ended(which, reason) {
  if (meeting !== which) return;
  meeting = null;
  media.stop();
  hideAll();
  farewell.show(which.room, reason);
}

// Without a gesture a browser gives an audio context no sound: the page that was reloaded gets it with the first click.
addEventListener("pointerdown", wakeAudio);
// For a look at statistics from the console, and for the labs.
Object.defineProperty(globalThis, "millrace", { value: { meeting: () => meeting, media } });
addEventListener("popstate", () => void route());
byId("home", HTMLAnchorElement).addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  visit("/");
});
void route();
