// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { assign, heightFor, slotsFor } from "../slots.js";

/** @param {(string | null)[]} tracks @returns {import("../slots.js").Slot[]} */
const slots = (...tracks) => tracks.map((track, at) => ({ mid: `m${at}`, track, height: undefined }));
/** @param {string[]} tracks */
const wanted = (...tracks) => tracks.map((track) => ({ track }));

/** What the slots show after the changes. @param {import("../slots.js").Slot[]} before @param {import("../slots.js").SlotChange[]} changes */
function after(before, changes) {
  const byMid = new Map(changes.map((change) => [change.mid, change.track]));
  return before.map((slot) => (byMid.has(slot.mid) ? byMid.get(slot.mid) : slot.track));
}

test("what is shown stays where it is", () => {
  assert.deepEqual(assign(wanted("b", "a"), slots("a", "b", null)), []);
});

test("a new track takes an empty slot, and one that nobody wants leaves its own", () => {
  const before = slots("a", "b", null);
  assert.deepEqual(after(before, assign(wanted("a", "c"), before)), ["a", null, "c"]);
});

test("when slots are short the important ones are shown", () => {
  const before = slots("x", "y");
  assert.deepEqual(after(before, assign(wanted("a", "y", "x"), before)), ["a", "y"]);
});

test("no track is ever in two slots, whatever is wanted", () => {
  let state = slots(...Array.from({ length: 5 }, () => null));
  let seed = 1;
  const random = (/** @type {number} */ below) => (seed = (seed * 48271) % 2147483647) % below;
  for (let turn = 0; turn < 2000; turn += 1) {
    const some = [...new Set(Array.from({ length: random(9) }, () => `t${random(12)}`))];
    const next = after(state, assign(wanted(...some), state));
    const shown = next.filter((track) => track !== null);
    assert.equal(new Set(shown).size, shown.length);
    assert.deepEqual(new Set(shown), new Set(some.slice(0, 5)));
    state = slots(.../** @type {(string | null)[]} */ (next));
  }
});

test("another height is said for the same track", () => {
  const [slot] = slots("a");
  assert.ok(slot);
  assert.deepEqual(assign([{ track: "a", height: 360 }], [slot]), [{ mid: "m0", track: "a", max_height: 360 }]);
  assert.deepEqual(assign([{ track: "a", height: 360 }], [{ ...slot, height: 360 }]), []);
});

test("slots come 9 at first and 8 at a time, up to the limit", () => {
  assert.equal(slotsFor(0, 0, 49), 9);
  assert.equal(slotsFor(9, 9, 49), 9);
  assert.equal(slotsFor(10, 9, 49), 17);
  assert.equal(slotsFor(100, 9, 49), 49);
  assert.equal(slotsFor(3, 17, 49), 17);
});

test("a tile at the border of two sizes does not switch to and fro", () => {
  assert.equal(heightFor(150, undefined), 180);
  assert.equal(heightFor(300, undefined), 360);
  assert.equal(heightFor(1500, undefined), 1080);
  assert.equal(heightFor(210, 180), 360);
  assert.equal(heightFor(200, 360), 360);
  assert.equal(heightFor(185, 360), 180);
});
