// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { initials, isRoom, newRoom, roomOf, roomOfPath, roomProblem } from "../names.js";

test("a new room has three words and is a room", () => {
  for (let turn = 0; turn < 200; turn += 1) {
    const name = newRoom();
    assert.match(name, /^[a-z]+-[a-z]+-[a-z]+$/);
    assert.ok(isRoom(name));
  }
  const picked = (/** @type {number} */ at) => newRoom((bound) => (at < bound ? at : 0));
  assert.equal(new Set(Array.from({ length: 64 }, (_, at) => picked(at))).size, 64);
});

test("what is typed or pasted is meant well", () => {
  assert.equal(roomOf("  Stand Up "), "stand-up");
  assert.equal(roomOf("https://meet.example/r/quiet-green-river?x=1#y"), "quiet-green-river");
  assert.equal(roomProblem("stand-up"), "");
  assert.match(roomProblem("stand!up"), /!/);
  assert.match(roomProblem("a".repeat(65)), /64/);
  assert.equal(isRoom(""), false);
});

test("the address names the room, also a wrong one", () => {
  assert.equal(roomOfPath("/"), null);
  assert.equal(roomOfPath("/r/standup"), "standup");
  assert.equal(roomOfPath("/r/Not%20a%20room"), "Not a room");
  assert.equal(roomOfPath("/r/%E0%A4%A"), "%E0%A4%A");
});

test("everybody has letters", () => {
  assert.equal(initials("Ada Lovelace"), "AL");
  assert.equal(initials("ada"), "A");
  assert.equal(initials("  "), "?");
  assert.equal(initials("😀 smile"), "😀S");
});
