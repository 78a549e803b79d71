// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { loudness, Speakers } from "../level.js";

test("a click is nobody speaking, a word is, and a breath does not end it", () => {
  const speakers = new Speakers();
  const hear = (/** @type {number} */ level, /** @type {number} */ now) => [...speakers.take(new Map([["ada", level]]), now)];
  assert.deepEqual(hear(0.5, 0), []);
  assert.deepEqual(hear(0, 150), []);
  assert.deepEqual(hear(0.1, 300), []);
  assert.deepEqual(hear(0.1, 450), ["ada"]);
  assert.deepEqual(hear(0, 1000), ["ada"]);
  assert.deepEqual(hear(0, 1400), []);
});

test("who has left speaks no more", () => {
  const speakers = new Speakers();
  speakers.take(new Map([["ada", 1]]), 0);
  speakers.take(new Map([["ada", 1]]), 150);
  assert.deepEqual([...speakers.take(new Map(), 200)], []);
});

test("loudness goes from nothing to all", () => {
  assert.equal(loudness(0), 0);
  assert.equal(loudness(1), 1);
  assert.ok(loudness(0.01) > 0.3 && loudness(0.01) < 0.5);
});
