// SPDX-License-Identifier: Apache-2.0
// Plays what is received: one audio element for each slot, all the time, so that nobody's first word waits for one.

import { preferences } from "./store.js";

/** Events: `blocked` when the browser wants a gesture first, `heard` when it does not any more. */
export class Sound extends EventTarget {
  #host;
  /** @type {Map<MediaStreamTrack, HTMLAudioElement>} */ #elements = new Map();
  #isBlocked = false;

  /** @param {HTMLElement} host */
  constructor(host) {
    super();
    this.#host = host;
  }

  /** @param {MediaStreamTrack[]} tracks all that should be heard */
  play(tracks) {
    for (const [track, element] of this.#elements) {
      if (tracks.includes(track)) continue;
      element.srcObject = null;
      element.remove();
      this.#elements.delete(track);
    }
    for (const track of tracks) {
      if (this.#elements.has(track)) continue;
      const element = document.createElement("audio");
      element.autoplay = true;
      element.srcObject = new MediaStream([track]);
      this.#elements.set(track, element);
      this.#host.append(element);
      void this.#point(element);
      void this.#start(element);
    }
  }

  /** After a gesture. */
  async unblock() {
    this.#isBlocked = false;
    await Promise.all([...this.#elements.values()].map((element) => this.#start(element)));
    if (!this.#isBlocked) this.dispatchEvent(new Event("heard"));
  }

  /** Plays on the speaker of the preferences. */
  async follow() {
    await Promise.all([...this.#elements.values()].map((element) => this.#point(element)));
  }

  /** @param {HTMLAudioElement} element */
  async #point(element) {
    const id = preferences().devices.speaker;
    if (id === undefined || !("setSinkId" in element)) return;
    await element.setSinkId(id).catch(() => {});
  }

  /** @param {HTMLAudioElement} element */
  async #start(element) {
    try {
      await element.play();
    } catch (error) {
      // Anything else, as an element that went meanwhile, is no refusal.
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      const isNews = !this.#isBlocked;
      this.#isBlocked = true;
      if (isNews) this.dispatchEvent(new Event("blocked"));
    }
  }
}
