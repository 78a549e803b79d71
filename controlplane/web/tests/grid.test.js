// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { gridLayout, stageLayout } from "../grid.js";

const GAP = 12;
const SPACES = [
  { width: 1256, height: 716 },
  { width: 1900, height: 960 },
  { width: 344, height: 640 },
  { width: 800, height: 300 },
  { width: 3000, height: 400 },
];

/** @param {import("../grid.js").Rect[]} rects @param {import("../grid.js").Size} space */
function assertPlaced(rects, space) {
  for (const [at, one] of rects.entries()) {
    assert.ok(one.x >= 0 && one.y >= 0, `tile ${at} begins inside`);
    assert.ok(one.x + one.width <= space.width + 1 && one.y + one.height <= space.height + 1, `tile ${at} ends inside`);
    for (const other of rects.slice(at + 1)) {
      const isApart = one.x + one.width <= other.x || other.x + other.width <= one.x || one.y + one.height <= other.y || other.y + other.height <= one.y;
      assert.ok(isApart, `no tile lies over another: ${JSON.stringify([one, other])}`);
    }
  }
}

test("every tile is inside, over no other, and as large as the others", () => {
  for (const space of SPACES) {
    for (let count = 1; count <= 49; count += 1) {
      const rects = gridLayout(count, space, GAP);
      assert.equal(rects.length, count);
      assertPlaced(rects, space);
      assert.equal(new Set(rects.map((rect) => `${rect.width}x${rect.height}`)).size, 1);
    }
  }
});

test("numbers of people come in the rows that one expects", () => {
  const rows = (/** @type {number} */ count, /** @type {import("../grid.js").Size} */ space) => {
    const tops = gridLayout(count, space, GAP).map((rect) => rect.y);
    return [...new Set(tops)].map((top) => tops.filter((other) => other === top).length);
  };
  const wide = { width: 1256, height: 716 };
  assert.deepEqual(rows(1, wide), [1]);
  assert.deepEqual(rows(2, wide), [2]);
  assert.deepEqual(rows(4, wide), [2, 2]);
  assert.deepEqual(rows(5, wide), [3, 2]);
  assert.deepEqual(rows(9, wide), [3, 3, 3]);
  const phone = { width: 344, height: 640 };
  assert.deepEqual(rows(2, phone), [1, 1]);
  assert.deepEqual(rows(9, phone), [2, 2, 2, 2, 1]);
});

test("most of a usual window is used", () => {
  const space = { width: 1256, height: 716 };
  for (const count of [1, 2, 3, 4, 6, 9]) {
    const area = gridLayout(count, space, GAP).reduce((sum, rect) => sum + rect.width * rect.height, 0);
    assert.ok(area / (space.width * space.height) > 0.55, `${count}: ${area}`);
  }
});

test("a space without size, or nobody, has no tiles", () => {
  assert.deepEqual(gridLayout(3, { width: 0, height: 500 }, GAP), []);
  assert.deepEqual(gridLayout(0, { width: 500, height: 500 }, GAP), []);
});

test("a screen takes most of the space, people stand beside it or below", () => {
  for (const space of SPACES.slice(0, 3)) {
    for (const count of [0, 1, 4, 20]) {
      const { main, strip } = stageLayout(count, space, GAP);
      assertPlaced([main, ...strip], space);
      assert.ok(strip.length <= count && (count === 0 || strip.length > 0));
      assert.ok(main.width * main.height > 0.5 * space.width * space.height, JSON.stringify({ space, count, main }));
    }
  }
});
