// SPDX-License-Identifier: Apache-2.0
// The stage: which tiles there are, where they are, and how large the pictures in them need to be.

import { gridLayout, stageLayout } from "./grid.js";
import { trackOf } from "./roster.js";
import { heightFor } from "./slots.js";
import { Tile } from "./tile.js";

/** More tiles than this are not put on one page: nobody recognises anybody. */
const MOST_TILES = 49;
/** Somebody whose connection is lost keeps the tile for this long. */
const LOST_TILE_MS = 10_000;

/**
 * @typedef {object} Entry
 * @property {string} key
 * @property {string | null} track whose picture; null: none is sent
 * @property {boolean} isMain a screen that is shared
 * @property {import("./tile.js").TileLook} look
 * @typedef {import("./meeting.js").Meeting} Meeting
 * @typedef {import("./local_media.js").LocalMedia} LocalMedia
 */

/** Shows a meeting in a box. */
export class Stage {
  #box;
  /** @type {Map<string, Tile>} */ #tiles = new Map();
  /** @type {Map<string, number>} */ #heights = new Map();
  /** @type {Map<string, number>} */ #lostSince = new Map();
  /** @type {Entry[]} */ #entries = [];
  /** Called when the sizes of pictures may have changed. */
  onLayout = () => {};

  /** @param {HTMLElement} box */
  constructor(box) {
    this.#box = box;
    new ResizeObserver(() => this.layout()).observe(box);
  }

  /** @param {Meeting} meeting @param {LocalMedia} media */
  show(meeting, media) {
    const entries = entriesOf(meeting, media).filter((entry) => this.#isWorthATile(entry));
    const structure = (/** @type {Entry[]} */ list) => list.map((entry) => `${entry.key}${entry.isMain}`).join();
    const isSame = structure(entries) === structure(this.#entries);
    this.#entries = entries;
    for (const [key, tile] of this.#tiles) {
      if (entries.some((entry) => entry.key === key)) continue;
      tile.element.remove();
      this.#tiles.delete(key);
    }
    for (const entry of entries) this.#tile(entry).show(entry.look);
    if (!isSame) this.layout();
  }

  /** @returns {import("./slots.js").Wanted[]} the pictures that are seen, the most important first */
  get wanted() {
    const seen = this.#entries.filter((entry) => entry.track !== null && this.#tiles.get(entry.key)?.element.hidden === false);
    return seen.map((entry) => {
      const track = /** @type {string} */ (entry.track);
      const height = heightFor(this.#tiles.get(entry.key)?.pixels ?? 0, this.#heights.get(track));
      this.#heights.set(track, height);
      // A screen is read: it comes as it is sent.
      return entry.isMain ? { track } : { track, height };
    });
  }

  /** Puts every tile into its place. */
  layout() {
    const box = { width: this.#box.clientWidth, height: this.#box.clientHeight };
    const gap = box.width < 600 ? 8 : 12;
    const mains = this.#entries.filter((entry) => entry.isMain);
    const others = this.#entries.filter((entry) => !entry.isMain);
    /** @type {Map<string, import("./grid.js").Rect>} */
    const places = new Map();
    if (mains.length > 0) {
      const { main, strip } = stageLayout(others.length, box, gap);
      gridLayout(mains.length, main, gap).forEach((rect, at) => {
        places.set(mains[at]?.key ?? "", mains.length === 1 ? main : { ...rect, x: rect.x + main.x, y: rect.y + main.y });
      });
      // Who speaks has a place where there are few.
      inStrip(others, strip.length).forEach((entry, at) => places.set(entry.key, /** @type {any} */ (strip[at])));
    } else {
      const shown = others.slice(0, MOST_TILES);
      gridLayout(shown.length, box, gap).forEach((rect, at) => places.set(shown[at]?.key ?? "", rect));
    }
    for (const [key, tile] of this.#tiles) {
      const rect = places.get(key);
      tile.element.hidden = rect === undefined;
      if (rect !== undefined) tile.place(rect);
    }
    this.#box.classList.toggle("with-screen", mains.length > 0);
    this.onLayout();
  }

  clear() {
    for (const tile of this.#tiles.values()) tile.element.remove();
    this.#tiles.clear();
    this.#entries = [];
  }

  /** @param {Entry} entry @returns {Tile} */
  #tile(entry) {
    const known = this.#tiles.get(entry.key);
    if (known !== undefined) return known;
    const tile = new Tile(entry.key);
    this.#tiles.set(entry.key, tile);
    this.#box.append(tile.element);
    return tile;
  }

  /** @param {Entry} entry */
  #isWorthATile(entry) {
    if (entry.look.state === "") {
      this.#lostSince.delete(entry.key);
      return true;
    }
    const since = this.#lostSince.get(entry.key) ?? Date.now();
    this.#lostSince.set(entry.key, since);
    return Date.now() - since < LOST_TILE_MS;
  }
}

/** @param {Meeting} meeting @param {LocalMedia} media @returns {Entry[]} screens first, oneself last */
function entriesOf(meeting, media) {
  const { roster, call, speakers } = meeting;
  /** @type {Entry[]} */
  const screens = [];
  /** @type {Entry[]} */
  const people = [];
  for (const one of roster.participants) {
    const [camera, microphone, screen] = [trackOf(one, "camera"), trackOf(one, "microphone"), trackOf(one, "screen")];
    const state = one.state === "lost" ? "Connection lost" : "";
    const isMuted = microphone === undefined || microphone.muted;
    const isShown = camera !== undefined && !camera.muted;
    const look = { name: one.name, isMuted, isSpeaking: speakers.has(one.id), state };
    const track = isShown ? call.mediaOf(camera.id) : null;
    people.push({ key: one.id, track: isShown ? camera.id : null, isMain: false, look: { ...look, track } });
    if (screen === undefined) continue;
    const picture = { name: one.name, isMuted: false, isSpeaking: false, state, isScreen: true };
    screens.push({ key: `${one.id}-screen`, track: screen.id, isMain: true, look: { ...picture, track: call.mediaOf(screen.id) } });
  }
  const own = { name: meeting.name, isMuted: media.microphone === null || !media.isMicOn, isSpeaking: speakers.has(meeting.self), state: "", isSelf: true };
  people.push({ key: "self", track: null, isMain: false, look: { ...own, track: media.camera } });
  return [...screens, ...people];
}

/**
 * The first of the strip, those who speak among them, oneself always.
 *
 * @param {Entry[]} entries
 * @param {number} places
 * @returns {Entry[]}
 */
function inStrip(entries, places) {
  if (entries.length <= places) return entries;
  const weight = (/** @type {Entry} */ entry) => Number(entry.look.isSelf === true) * 2 + Number(entry.look.isSpeaking);
  const chosen = new Set([...entries].sort((one, other) => weight(other) - weight(one)).slice(0, places));
  return entries.filter((entry) => chosen.has(entry));
}
