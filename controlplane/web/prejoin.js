// SPDX-License-Identifier: Apache-2.0
// Before a meeting: how one looks and sounds, which devices, under which name.

import { startDeviceChoice } from "./device_choice.js";
import { byId, copyFrom, dress, say } from "./dom.js";
import { LevelMeter, loudness } from "./level.js";
import { deviceWords, refusalWords } from "./messages.js";
import { hueOf, initials, isRoom } from "./names.js";
import { codeOf, RequestError } from "./protocol.js";
import { prefer, preferences } from "./store.js";

/**
 * @typedef {{name: string, token: string, isListener: boolean}} Entry
 * @typedef {import("./local_media.js").LocalMedia} LocalMedia
 */

/** The prejoin page. */
export class Prejoin {
  #view = byId("prejoin", HTMLElement);
  #video = byId("preview-video", HTMLVideoElement);
  #mic = byId("prejoin-mic", HTMLButtonElement);
  #cam = byId("prejoin-cam", HTMLButtonElement);
  #name = byId("prejoin-name", HTMLInputElement);
  #token = byId("prejoin-token", HTMLInputElement);
  #join = byId("join", HTMLButtonElement);
  #listen = byId("listen", HTMLButtonElement);
  #media;
  #enter;
  #fill;
  #room = "";
  #isJoining = false;
  /** @type {LevelMeter | null} */ #meter = null;
  /** @type {MediaStreamTrack | null} */ #metered = null;
  #frame = 0;

  /**
   * @param {LocalMedia} media
   * @param {(room: string, entry: Entry) => Promise<void>} enter
   */
  constructor(media, enter) {
    this.#media = media;
    this.#enter = enter;
    this.#fill = startDeviceChoice("prejoin", media, () => {});
    media.addEventListener("change", () => !this.#view.hidden && this.#draw());
    this.#mic.addEventListener("click", () => void media.setMic(!media.isMicOn));
    this.#cam.addEventListener("click", () => void media.setCam(!media.isCamOn));
    this.#name.addEventListener("input", () => {
      prefer({ name: this.#name.value.trim() });
      this.#face();
    });
    byId("prejoin-retry", HTMLButtonElement).addEventListener("click", () => void media.start());
    byId("prejoin-copy", HTMLButtonElement).addEventListener("click", (event) => {
      void copyFrom(/** @type {HTMLButtonElement} */ (event.currentTarget), linkOf(this.#room));
    });
    byId("prejoin-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit(false);
    });
    this.#listen.addEventListener("click", () => void this.#submit(true));
  }

  /** @param {string} room @param {string} token from the link */
  show(room, token) {
    this.#room = room;
    this.#view.hidden = false;
    document.title = `Join ${room} – Millrace`;
    say(byId("prejoin-room", HTMLElement), room);
    this.#name.value = preferences().name;
    if (token !== "") this.#token.value = token;
    const isGood = isRoom(room);
    this.refuse(isGood ? null : new RequestError("bad_room", ""));
    this.#view.classList.toggle("no-room", !isGood);
    say(byId("prejoin-title", HTMLElement), isGood ? "Ready to join?" : "No such meeting");
    for (const element of [this.#join, this.#listen]) element.disabled = !isGood;
    this.#draw();
    if (!isGood) return;
    void this.#media.start().then(this.#fill);
    this.#follow();
  }

  hide() {
    this.#view.hidden = true;
    cancelAnimationFrame(this.#frame);
    this.#meter?.stop();
    this.#meter = this.#metered = null;
    this.#video.srcObject = null;
  }

  /** Says why joining did not work; null: nothing is wrong. @param {unknown} error */
  refuse(error) {
    const box = byId("prejoin-refusal", HTMLElement);
    box.hidden = error === null;
    if (error === null) return;
    const words = refusalWords(error);
    say(byId("prejoin-refusal-title", HTMLElement), words.title);
    say(byId("prejoin-refusal-text", HTMLElement), words.text);
    if (codeOf(error) !== "unauthorized" && codeOf(error) !== "forbidden") return;
    byId("token-field", HTMLElement).hidden = false;
    this.#token.focus();
  }

  /** @param {boolean} isListener */
  async #submit(isListener) {
    if (this.#isJoining || this.#join.disabled) return;
    this.#isJoining = true;
    this.refuse(null);
    this.#draw();
    try {
      const name = this.#name.value.trim() || "Guest";
      await this.#enter(this.#room, { name, token: this.#token.value.trim(), isListener });
    } catch (error) {
      this.refuse(error);
    }
    this.#isJoining = false;
    this.#draw();
  }

  #draw() {
    const media = this.#media;
    const isMicOn = media.isMicOn && media.microphone !== null;
    const isCamOn = media.camera !== null;
    dress(this.#mic, { icon: isMicOn ? "mic" : "mic-off", label: isMicOn ? "Mute" : "Unmute" });
    dress(this.#cam, { icon: isCamOn ? "cam" : "cam-off", label: isCamOn ? "Turn camera off" : "Turn camera on" });
    this.#mic.setAttribute("aria-pressed", String(isMicOn));
    this.#cam.setAttribute("aria-pressed", String(isCamOn));
    this.#showCamera(media.camera);
    this.#face();
    this.#join.textContent = this.#isJoining ? "Joining …" : "Join now";
    this.#join.toggleAttribute("aria-busy", this.#isJoining);
    const problem = byId("prejoin-problem", HTMLElement);
    problem.hidden = media.problem === null;
    if (media.problem === null) return;
    const words = deviceWords(media.problem);
    say(byId("prejoin-problem-title", HTMLElement), words.title);
    say(byId("prejoin-problem-text", HTMLElement), words.text);
    byId("prejoin-retry", HTMLElement).hidden = media.problem === "insecure" || media.problem === "unsupported";
  }

  /** @param {MediaStreamTrack | null} camera */
  #showCamera(camera) {
    const shown = /** @type {MediaStream | null} */ (this.#video.srcObject)?.getVideoTracks()[0] ?? null;
    if (shown !== camera) this.#video.srcObject = camera === null ? null : new MediaStream([camera]);
    this.#video.hidden = camera === null;
    byId("preview-off", HTMLElement).hidden = camera !== null;
    const { isBusy, isCamOn, problem } = this.#media;
    const isStarting = isBusy && isCamOn;
    say(byId("preview-text", HTMLElement), isStarting ? "Starting the camera …" : problem === null || !isCamOn ? "Camera is off" : "No camera");
  }

  #face() {
    const name = this.#name.value.trim() || "Guest";
    const avatar = byId("preview-avatar", HTMLElement);
    say(avatar, initials(name));
    avatar.style.setProperty("--hue", String(hueOf(name)));
  }

  /** Moves the level meter. */
  #follow() {
    const meter = byId("prejoin-meter", HTMLElement);
    const step = () => {
      this.#frame = requestAnimationFrame(step);
      const track = this.#media.isMicOn ? this.#media.microphone : null;
      if (track !== this.#metered) {
        this.#meter?.stop();
        this.#meter = track === null ? null : new LevelMeter(track);
        this.#metered = track;
      }
      const level = Math.round(loudness(this.#meter?.read() ?? 0) * 100);
      if (meter.getAttribute("aria-valuenow") === String(level)) return;
      meter.setAttribute("aria-valuenow", String(level));
      meter.style.setProperty("--level", `${level}%`);
    };
    step();
  }
}

/** @param {string} room @returns {string} */
export function linkOf(room) {
  return `${location.origin}/r/${room}`;
}
