// SPDX-License-Identifier: Apache-2.0
// What goes where: the tracks that a page wants, the slots that it has, and the smallest change between them. Pure.

/**
 * @typedef {{track: string, height?: number}} Wanted
 * @typedef {{mid: string, track: string | null, height: number | undefined}} Slot
 * @typedef {{mid: string, track: string | null, max_height?: number}} SlotChange
 */

/** Slots of a kind at the start, how many come at a time, and where it ends. */
export const FIRST_SLOTS = 9;
export const MORE_SLOTS = 8;

/**
 * Fills slots. A wanted track stays where it is; a new one takes an empty slot, then one whose track nobody wants. Tracks
 * that nobody wants leave their slot. Earlier in `wanted` means more important when slots are short.
 *
 * @param {Wanted[]} wanted
 * @param {Slot[]} slots what they show
 * @returns {SlotChange[]} for `subscribe`; empty when nothing changes
 */
export function assign(wanted, slots) {
  const chosen = wanted.slice(0, slots.length);
  const byTrack = new Map(chosen.map((one) => [one.track, one]));
  const shown = new Set(slots.map((slot) => slot.track));
  const arriving = chosen.filter((one) => !shown.has(one.track));
  /** @type {SlotChange[]} */
  const changes = [];
  const free = slots.filter((slot) => slot.track === null || !byTrack.has(slot.track));
  // Empty ones first: what is being shown is disturbed last.
  free.sort((one, other) => Number(one.track !== null) - Number(other.track !== null));
  for (const slot of free) {
    const next = arriving.shift();
    if (next !== undefined) changes.push(change(slot.mid, next));
    else if (slot.track !== null) changes.push({ mid: slot.mid, track: null });
  }
  for (const slot of slots) {
    const wish = slot.track === null ? undefined : byTrack.get(slot.track);
    if (wish !== undefined && wish.height !== slot.height) changes.push(change(slot.mid, wish));
  }
  return changes;
}

/** @param {string} mid @param {Wanted} wish @returns {SlotChange} */
function change(mid, wish) {
  return wish.height === undefined
    ? { mid, track: wish.track }
    : { mid, track: wish.track, max_height: wish.height };
}

/**
 * How many slots there should be: 9, and 8 more each time they do not suffice.
 *
 * @param {number} wanted
 * @param {number} have
 * @param {number} limit
 * @returns {number}
 */
export function slotsFor(wanted, have, limit) {
  let count = Math.max(have, FIRST_SLOTS);
  while (count < wanted && count < limit) count += MORE_SLOTS;
  return Math.min(count, Math.max(limit, have));
}

/**
 * The height that is asked for when a picture is `pixels` high on the screen: the next size that cameras are sent in. It
 * stays while the picture is only a little larger, so that a tile at the border does not switch to and fro.
 *
 * @param {number} pixels
 * @param {number | undefined} before
 * @returns {number}
 */
export function heightFor(pixels, before) {
  const sizes = [180, 360, 720];
  const fits = sizes.find((size) => pixels <= size * 1.15) ?? 1080;
  if (before === undefined || fits >= before) return fits;
  return pixels < fits * 1.05 ? fits : before;
}
