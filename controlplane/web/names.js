// SPDX-License-Identifier: Apache-2.0
// Names of rooms: what is one, what a person meant, and a new one of three words. Pure.

const ROOM = /^[a-z0-9-]{1,64}$/;

// Short, easy to say and to hear, none that needs spelling out. 64 × 64 × 64 names.
const FIRST = "amber ample azure bold brave brief bright brisk broad calm clear clever cosy crisp daily dapper deep early easy even fair fine firm fleet fond fresh gentle glad golden good grand green happy keen kind large light lively lucky mellow merry mild neat new noble open plain proud quick quiet rapid ready rosy royal sharp shy silent smooth snowy steady sunny swift tidy warm".split(" ");
const SECOND = "apple autumn birch blue cedar cherry cloud clover copper coral cotton crystal elm ember fern field forest frost garden granite hazel honey island ivory ivy jade juniper lake lemon lilac lime linen maple marble meadow mint misty moon moss mountain oak ocean olive orange paper pearl pine plum poppy rain red river sand sea silver sky spring star stone summer sun velvet willow winter".split(" ");
const THIRD = "badger beacon bell bird boat bridge brook canal castle comet crane creek crow current deer dolphin door dove duck eagle falcon ferry finch fox gate goose harbour heron hill horse kite lamp lantern lark mill mole otter owl path pier pilot pony raven robin sail seal ship sluice sparrow spoke stork stream swallow swan tide tower trail train trout valley water wave wheel wren".split(" ");

/** @param {string} name @returns {boolean} */
export function isRoom(name) {
  return ROOM.test(name);
}

/**
 * What a person typed or pasted, as a room's name: a link gives the room in it, capitals and spaces become what they
 * stand for. What cannot be meant well stays as it is, so that it can be judged.
 *
 * @param {string} typed
 * @returns {string}
 */
export function roomOf(typed) {
  const text = typed.trim();
  const linked = /\/r\/([^/?#\s]+)/.exec(text)?.[1];
  return (linked ?? text).toLowerCase().replace(/[\s_]+/g, "-");
}

/** @param {string} room what {@link roomOf} gave @returns {string} what is wrong with it; empty when nothing is */
export function roomProblem(room) {
  if (room === "" || isRoom(room)) return "";
  if (room.length > 64) return "A room's name has at most 64 characters.";
  const odd = [...new Set(room.replace(/[a-z0-9-]/g, ""))].join(" ");
  return `Only small letters, digits and hyphens: not ${odd}`;
}

/** @param {string} path @returns {string | null} the room in `/r/<room>` as it stands there; null on another page */
export function roomOfPath(path) {
  const match = /^\/r\/([^/]*)\/?$/.exec(path);
  if (match === null) return null;
  try {
    return decodeURIComponent(match[1] ?? "");
  } catch {
    return match[1] ?? "";
  }
}

/** @param {(bound: number) => number} [pick] @returns {string} */
export function newRoom(pick = randomBelow) {
  return [FIRST, SECOND, THIRD].map((words) => words[pick(words.length)]).join("-");
}

/** @param {number} bound at most 256 @returns {number} */
function randomBelow(bound) {
  // 65536 is so much larger than the lists that the remainder's bias does not matter.
  const [value = 0] = crypto.getRandomValues(new Uint16Array(1));
  return value % bound;
}

/** @param {string} name @returns {string} one or two letters for a picture of somebody */
export function initials(name) {
  const words = name.trim().split(/[\s\-_.]+/).filter((word) => word !== "");
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return letters.map((word) => [...(word ?? "")][0] ?? "").join("").toUpperCase() || "?";
}

/** @param {string} text @returns {number} a hue that stays the same for the same name */
export function hueOf(text) {
  let hash = 7;
  for (const letter of text) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 3600;
  return hash % 360;
}
