// SPDX-License-Identifier: Apache-2.0
// One's own microphone, camera and screen: which are open, which are on. The prejoin page and the meeting share one.

import { open, openScreen } from "./devices.js";
import { prefer, preferences } from "./store.js";

/**
 * Events: `change` after anything changed; `lost` (`{kind}`) when a device went by itself.
 */
export class LocalMedia extends EventTarget {
  /** @type {MediaStreamTrack | null} */ microphone = null;
  /** @type {MediaStreamTrack | null} */ camera = null;
  /** @type {MediaStreamTrack | null} */ screen = null;
  /** @type {MediaStreamTrack | null} */ screenSound = null;
  /** @type {import("./devices.js").Problem | null} */ problem = null;
  isMicOn = preferences().isMicOn;
  isCamOn = preferences().isCamOn;
  /** Whether a device is being opened. */
  isBusy = false;

  /** Opens what is wished to be on and is not open. */
  async start() {
    this.isBusy = true;
    this.#changed();
    const wish = { microphone: this.microphone === null, camera: this.isCamOn && this.camera === null };
    const opened = wish.microphone || wish.camera ? await open(wish) : { microphone: null, camera: null, problem: null };
    this.isBusy = false;
    this.problem = opened.problem;
    if (opened.microphone !== null) this.#take("microphone", opened.microphone);
    if (opened.camera !== null && this.isCamOn) this.#take("camera", opened.camera);
    else opened.camera?.stop();
    this.#changed();
  }

  /** @param {boolean} isOn */
  async setMic(isOn) {
    this.isMicOn = isOn;
    prefer({ isMicOn: isOn });
    // The device stays open while muted: unmuting is then immediate.
    if (this.microphone !== null) this.microphone.enabled = isOn;
    else if (isOn) await this.#openOne("microphone");
    this.#changed();
  }

  /** @param {boolean} isOn */
  async setCam(isOn) {
    this.isCamOn = isOn;
    prefer({ isCamOn: isOn });
    if (!isOn) {
      // Stopped, so that the camera's light goes out.
      this.#release("camera");
    } else if (this.camera === null) {
      this.#changed();
      await this.#openOne("camera");
    }
    this.#changed();
  }

  /**
   * @param {"microphone" | "camera"} kind
   * @param {string} id
   */
  async choose(kind, id) {
    prefer({ devices: { ...preferences().devices, [kind]: id } });
    if (kind === "camera" && !this.isCamOn) return;
    this.#release(kind);
    await this.#openOne(kind);
    this.#changed();
  }

  /** @returns {Promise<boolean>} whether a screen is shared afterwards */
  async share() {
    const opened = await openScreen();
    if (opened === null) return false;
    this.stopSharing();
    this.#take("screen", opened.screen);
    if (opened.sound !== null) this.#take("screenSound", opened.sound);
    this.#changed();
    return true;
  }

  stopSharing() {
    if (this.screen === null && this.screenSound === null) return;
    this.#release("screen");
    this.#release("screenSound");
    this.#changed();
  }

  /** Lets go of every device. */
  stop() {
    for (const slot of /** @type {const} */ (["microphone", "camera", "screen", "screenSound"])) this.#release(slot);
    this.#changed();
  }

  /** @param {"microphone" | "camera"} kind */
  async #openOne(kind) {
    this.isBusy = true;
    const opened = await open({ microphone: kind === "microphone", camera: kind === "camera" });
    this.isBusy = false;
    this.problem = opened.problem;
    const track = opened[kind];
    const isWanted = kind === "microphone" || this.isCamOn;
    if (track !== null && isWanted) this.#take(kind, track);
    else track?.stop();
  }

  /**
   * @param {"microphone" | "camera" | "screen" | "screenSound"} slot
   * @param {MediaStreamTrack} track
   */
  #take(slot, track) {
    this[slot]?.stop();
    this[slot] = track;
    if (slot === "microphone") track.enabled = this.isMicOn;
    track.addEventListener("ended", () => {
      if (this[slot] !== track) return;
      this[slot] = null;
      if (slot === "screen") this.#release("screenSound");
      if (slot === "camera") this.isCamOn = false;
      this.dispatchEvent(new CustomEvent("lost", { detail: { kind: slot } }));
      this.#changed();
    });
  }

  /** @param {"microphone" | "camera" | "screen" | "screenSound"} slot */
  #release(slot) {
    const track = this[slot];
    this[slot] = null;
    track?.stop();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
