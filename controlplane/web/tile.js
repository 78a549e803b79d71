// SPDX-License-Identifier: Apache-2.0
// One picture on the stage: somebody's camera, or a screen.

import { say, within } from "./dom.js";
import { hueOf, initials } from "./names.js";

/**
 * @typedef {object} TileLook
 * @property {string} name
 * @property {MediaStreamTrack | null} track what to show; null: the person's letters
 * @property {boolean} isMuted
 * @property {boolean} isSpeaking
 * @property {string} state in words; empty when all is well
 * @property {boolean} [isSelf]
 * @property {boolean} [isScreen]
 */

/** A tile; `element` is on the page while the stage says so. */
export class Tile {
  /** @type {HTMLElement} */ element;
  #video;
  #avatar;
  #name;
  #words;
  #state;
  /** @type {MediaStreamTrack | null} */ #track = null;
  #name0 = "";

  /** @param {string} id names it for tests */
  constructor(id) {
    const template = document.getElementById("tile-template");
    if (!(template instanceof HTMLTemplateElement)) throw new Error("index.html has no #tile-template");
    const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    this.element = within(copy, ".tile", HTMLElement);
    this.element.dataset.testid = `tile-${id}`;
    this.#video = within(this.element, "video", HTMLVideoElement);
    this.#avatar = within(this.element, ".avatar", HTMLElement);
    this.#name = within(this.element, ".tile-name", HTMLElement);
    this.#words = within(this.element, ".tile-words", HTMLElement);
    this.#state = within(this.element, ".tile-state", HTMLElement);
  }

  /** Height of the picture on the screen, in device pixels. */
  get pixels() {
    return this.element.clientHeight * devicePixelRatio;
  }

  /** @param {TileLook} look */
  show(look) {
    const { element } = this;
    if (look.name !== this.#name0) this.#call(look);
    this.#name0 = look.name;
    element.classList.toggle("speaking", look.isSpeaking);
    element.classList.toggle("muted", look.isMuted);
    element.classList.toggle("self", look.isSelf === true);
    element.classList.toggle("screen", look.isScreen === true);
    element.classList.toggle("away", look.state !== "");
    say(this.#state, look.state);
    this.#state.hidden = look.state === "";
    const words = [look.isMuted && "muted", look.isSpeaking && "speaking"].filter(Boolean).join(", ");
    say(this.#words, words === "" ? "" : ` (${words})`);
    this.#picture(look.track);
  }

  /** @param {DOMRect | {x: number, y: number, width: number, height: number}} rect */
  place({ x, y, width, height }) {
    const { style } = this.element;
    style.transform = `translate(${x}px, ${y}px)`;
    style.width = `${width}px`;
    style.height = `${height}px`;
    this.element.classList.toggle("tiny", height < 130);
  }

  /** @param {TileLook} look */
  #call(look) {
    const label = look.isSelf === true ? `${look.name} (you)` : look.isScreen === true ? `${look.name}’s screen` : look.name;
    say(this.#name, label);
    say(this.#avatar, initials(look.name));
    this.#avatar.style.setProperty("--hue", String(hueOf(look.name)));
  }

  /** @param {MediaStreamTrack | null} track */
  #picture(track) {
    if (track === this.#track) return;
    this.#track = track;
    if (track === null) {
      this.#video.srcObject = null;
      delete this.element.dataset.shown;
      return;
    }
    delete this.element.dataset.shown;
    this.#video.srcObject = new MediaStream([track]);
    void this.#video.play().catch(() => {});
    this.#uncover(track);
  }

  /** The letters stay until there is a picture: nobody sees a black tile. @param {MediaStreamTrack} track */
  #uncover(track) {
    const show = () => {
      if (this.#track === track) this.element.dataset.shown = "true";
    };
    this.#video.addEventListener("loadeddata", show, { once: true });
    this.#video.requestVideoFrameCallback?.(show);
  }
}
