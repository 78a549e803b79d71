// SPDX-License-Identifier: Apache-2.0
// The plain page: publish a camera, see who is there, watch them. It says honestly what went wrong and keeps nothing.

import { SessionError, publish, rooms, watch } from "/client.js";

/** How often the list is asked for again. */
const REFRESH_MS = 2000;
/** How long a participant that has not published yet is tried again. */
const PATIENCE_MS = 10_000;

/** @param {string} id @returns {HTMLElement} */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const form = /** @type {HTMLFormElement} */ (element("join"));
const roomField = /** @type {HTMLInputElement} */ (element("room"));
const nameField = /** @type {HTMLInputElement} */ (element("name"));
const tokenField = /** @type {HTMLInputElement} */ (element("token"));
const simulcastField = /** @type {HTMLInputElement} */ (element("simulcast"));
const publishButton = /** @type {HTMLButtonElement} */ (element("publish"));
const leaveButton = /** @type {HTMLButtonElement} */ (element("leave"));
const preview = /** @type {HTMLVideoElement} */ (element("preview"));
const people = element("people");
const stage = element("stage");

/** @type {import("/client.js").Session | null} */
let own = null;
/** Open tiles by `room/participant`. @type {Map<string, {name: string, close: () => Promise<void>}>} */
const tiles = new Map();
/** What the list shows, so that it is only built again (and focus lost) when it differs. */
let shown = "";

/** @param {string} text empty: nothing is wrong. */
function tell(text) {
  const message = element("message");
  message.textContent = text;
  message.hidden = text === "";
}

/** What a person can do about an error. @param {unknown} error @returns {string} */
function explain(error) {
  if (error instanceof SessionError) return explainSession(error);
  if (!(error instanceof DOMException)) return `Something went wrong: ${error}`;
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The browser may not use camera and microphone. Allow them for this page (the icon beside the address) and try again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera or microphone was found. Connect one and try again.";
    case "NotReadableError":
    case "AbortError":
      return "The camera or microphone is used by another program. Close it and try again.";
    default:
      return `Camera and microphone cannot be used: ${error.message}`;
  }
}

/** @param {SessionError} error @returns {string} */
function explainSession(error) {
  switch (error.kind) {
    case "unreachable":
      return "The server cannot be reached. Is it running, and are you online?";
    case "timeout":
      return "The server did not answer within 10 seconds. It may be overloaded; try again.";
    case "unauthorized":
      return `The server wants an access token (under "More"): ${error.message}.`;
    case "not-published":
      return error.field === "room"
        ? "Nobody publishes in this room yet."
        : "This participant does not publish (any more).";
    case "name-taken":
      return "Somebody publishes under this name already. Choose another.";
    case "connection":
      return `${error.message} A firewall between you and the server may block UDP.`;
    default:
      return `The server refused: ${error.message}${error.field === undefined ? "" : ` (${error.field})`}.`;
  }
}

/** Camera and microphone, or an error that `explain` knows. @returns {Promise<MediaStream>} */
async function capture() {
  if (!window.isSecureContext || navigator.mediaDevices === undefined) {
    throw new SessionError(
      "insecure-context",
      "browsers give camera and microphone to secure pages only: open this page by https, or as http://localhost on the server itself",
    );
  }
  const video = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true, video });
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotFoundError") throw error;
    // One of the two is missing: half is better than nothing.
    const audioOnly = navigator.mediaDevices.getUserMedia({ audio: true });
    return audioOnly.catch(() => navigator.mediaDevices.getUserMedia({ video }));
  }
}

async function startPublishing() {
  tell("");
  publishButton.disabled = true;
  /** @type {MediaStream | null} */
  let stream = null;
  try {
    const room = roomField.value;
    stream = await capture();
    preview.srcObject = stream;
    element("self").hidden = false;
    state("connecting …");
    own = await publish(room, nameField.value.trim(), stream, {
      simulcast: simulcastField.checked,
      token: tokenField.value,
    });
    const { pc, participant } = own;
    remember(room);
    await own.connected;
    state(`publishing as ${participant}`);
    pc.addEventListener("connectionstatechange", () => {
      if (pc.connectionState === "disconnected") state("connection lost, waiting …");
      if (pc.connectionState === "connected") state(`publishing as ${participant}`);
      if (pc.connectionState === "failed" && own?.pc === pc) {
        void stopPublishing();
        tell("The connection to the server was lost. Publish again to come back.");
      }
    });
    publishButton.hidden = true;
    leaveButton.hidden = false;
    leaveButton.focus();
    void refresh();
  } catch (error) {
    for (const track of stream?.getTracks() ?? []) track.stop();
    await stopPublishing();
    tell(explain(error));
  } finally {
    publishButton.disabled = false;
  }
}

async function stopPublishing() {
  const session = own;
  own = null;
  for (const track of session?.stream.getTracks() ?? []) track.stop();
  preview.srcObject = null;
  element("self").hidden = true;
  leaveButton.hidden = true;
  publishButton.hidden = false;
  await session?.close();
  void refresh();
}

/** @param {string} text */
function state(text) {
  element("self-state").textContent = text;
}

/** Keeps the room in the address, so that it can be shared. @param {string} room */
function remember(room) {
  const path = `/r/${encodeURIComponent(room)}`;
  if (location.pathname !== path) history.replaceState(null, "", path);
}

/** @param {string} room @param {string} participant @param {string} name */
async function startWatching(room, participant, name) {
  const key = `${room}/${participant}`;
  if (tiles.has(key)) return;
  tell("");
  const abort = new AbortController();
  const template = /** @type {HTMLTemplateElement} */ (element("tile"));
  const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
  const tile = /** @type {HTMLElement} */ (copy.firstElementChild);
  const video = /** @type {HTMLVideoElement} */ (tile.querySelector("video"));
  const caption = /** @type {HTMLElement} */ (tile.querySelector(".state"));
  const play = /** @type {HTMLButtonElement} */ (tile.querySelector(".play"));
  const stop = /** @type {HTMLButtonElement} */ (tile.querySelector(".stop"));
  /** @type {HTMLElement} */ (tile.querySelector(".who")).textContent = name;
  stop.setAttribute("aria-label", `Stop watching ${name}`);
  /** @type {import("/client.js").Session | null} */
  let session = null;
  const close = async () => {
    abort.abort();
    tiles.delete(key);
    tile.remove();
    element("watching").hidden = tiles.size === 0;
    shown = "";
    await session?.close();
    void refresh();
  };
  tiles.set(key, { name, close });
  stop.addEventListener("click", () => void close());
  stage.append(tile);
  element("watching").hidden = false;
  remember(room);
  caption.textContent = "connecting …";
  try {
    session = await patiently((left) => watch(room, participant, { token: tokenField.value, signal: left }), abort.signal);
    if (abort.signal.aborted) return void (await session.close());
    video.srcObject = session.stream;
    const start = () => video.play().then(() => (play.hidden = true), () => (play.hidden = false));
    play.addEventListener("click", () => void start());
    await session.connected;
    caption.textContent = "";
    await start();
    const { pc } = session;
    pc.addEventListener("connectionstatechange", () => {
      caption.textContent = pc.connectionState === "connected" ? "" : `connection ${pc.connectionState}`;
    });
  } catch (error) {
    if (abort.signal.aborted) return;
    await close();
    tell(`${name}: ${explain(error)}`);
  }
}

/**
 * Tries again while the server says that the participant has not published yet.
 *
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} attempt
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
async function patiently(attempt, signal) {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await attempt(signal);
    } catch (error) {
      const wait = error instanceof SessionError && error.kind === "not-published" ? error.retryAfterMs : undefined;
      if (wait === undefined || signal.aborted || performance.now() + wait > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

/** Asks who is there and shows it. */
async function refresh() {
  const room = roomField.value;
  if (room === "" || !roomField.validity.valid) return show(room, [], "Name a room to see who is there.");
  try {
    const found = (await rooms()).find((candidate) => candidate.room === room);
    if (room !== roomField.value) return;
    closeTilesOfLeavers(room, found?.publishers ?? []);
    if (found === undefined) return show(room, [], "There is no such room yet. It begins when somebody publishes.");
    const others = found.publishers.filter((publisher) => publisher.participant !== own?.participant);
    const watched = found.viewers === 1 ? "1 viewer" : `${found.viewers} viewers`;
    show(room, others, others.length === 0 ? `Nobody else publishes here (${watched}).` : `${watched}.`);
  } catch (error) {
    show(room, [], explain(error));
  }
}

/**
 * Whoever stops publishing leaves a still picture behind: its tile goes, and the page says so.
 *
 * @param {string} room
 * @param {{participant: string}[]} publishers
 */
function closeTilesOfLeavers(room, publishers) {
  for (const [key, tile] of tiles) {
    const isHere = publishers.some((publisher) => key === `${room}/${publisher.participant}`);
    if (isHere || !key.startsWith(`${room}/`)) continue;
    tell(`${tile.name} has stopped publishing.`);
    void tile.close();
  }
}

/**
 * @param {string} room
 * @param {{participant: string, name: string, audio: number, video: number, live: boolean}[]} publishers
 * @param {string} summary
 */
function show(room, publishers, summary) {
  const stateLine = element("people-state");
  if (stateLine.textContent !== summary) stateLine.textContent = summary;
  const next = JSON.stringify([room, publishers, [...tiles.keys()]]);
  if (next === shown) return;
  shown = next;
  const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.participant : undefined;
  people.replaceChildren(...publishers.map((publisher) => personRow(room, publisher)));
  if (focused !== undefined) {
    /** @type {HTMLElement | null} */ (people.querySelector(`[data-participant="${CSS.escape(focused)}"]`))?.focus();
  }
}

/**
 * @param {string} room
 * @param {{participant: string, name: string, audio: number, video: number, live: boolean}} publisher
 */
function personRow(room, publisher) {
  const row = document.createElement("li");
  const who = document.createElement("span");
  who.className = "who";
  who.textContent = publisher.name;
  const what = document.createElement("span");
  what.className = "what";
  const kinds = [publisher.audio > 0 && "audio", publisher.video > 0 && "video"].filter(Boolean).join(" and ");
  what.textContent = publisher.live ? kinds : "connecting";
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Watch";
  button.dataset.participant = publisher.participant;
  button.setAttribute("aria-label", `Watch ${publisher.name}`);
  button.disabled = tiles.has(`${room}/${publisher.participant}`);
  button.addEventListener("click", () => {
    button.disabled = true;
    void startWatching(room, publisher.participant, publisher.name);
  });
  row.append(who, what, button);
  return row;
}

/** The room in `/r/<room>`. @returns {string} */
function roomOfPath() {
  const match = /^\/r\/([a-z0-9-]{1,64})$/.exec(location.pathname);
  return match?.[1] ?? "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void startPublishing();
});
leaveButton.addEventListener("click", () => {
  void stopPublishing().then(() => publishButton.focus());
});
roomField.addEventListener("input", () => void refresh());
roomField.value = roomOfPath() || "demo";
if (!window.isSecureContext) {
  tell("This page is not secure, so the browser gives it no camera. Watching works; to publish, open it by https, or as http://localhost on the server itself.");
}
void refresh();
setInterval(() => document.visibilityState === "visible" && void refresh(), REFRESH_MS);
