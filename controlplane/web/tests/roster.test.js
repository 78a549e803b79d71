// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { Roster, trackOf } from "../roster.js";

/** @param {string} id @param {import("../protocol.js").Track[]} tracks @returns {import("../protocol.js").Participant} */
const person = (id, tracks = []) => ({ id, name: id.toUpperCase(), state: "live", tracks });
/** @type {import("../protocol.js").Track} */
const CAMERA = { id: "c1", kind: "video", source: "camera", muted: false };

test("joined and every event after it are the room", () => {
  const roster = new Roster();
  roster.replace([person("bob", [{ ...CAMERA }])]);
  assert.deepEqual(roster.apply({ type: "participant_joined", participant: person("cy") }).map((change) => change.kind), ["came"]);
  roster.apply({ type: "track_published", participant: "cy", track: { id: "m2", kind: "audio", source: "microphone", muted: false } });
  roster.apply({ type: "track_muted", participant: "cy", track: "m2", muted: true });
  roster.apply({ type: "track_unpublished", participant: "bob", track: "c1" });
  roster.apply({ type: "participant_state", participant: "bob", state: "lost" });
  assert.deepEqual(roster.participants, [
    { ...person("bob"), state: "lost" },
    person("cy", [{ id: "m2", kind: "audio", source: "microphone", muted: true }]),
  ]);
  assert.deepEqual(roster.apply({ type: "participant_left", participant: "bob", reason: "lost" }).map((change) => change.reason), ["lost"]);
  assert.deepEqual(roster.participants.map((one) => one.id), ["cy"]);
});

test("a resumed room keeps the places and says who came and went", () => {
  const roster = new Roster();
  roster.replace([person("a"), person("b"), person("c")]);
  const changes = roster.replace([person("d"), person("c"), person("a")]);
  assert.deepEqual(changes.map((change) => [change.kind, change.participant.id]), [["left", "b"], ["came", "d"]]);
  assert.deepEqual(roster.participants.map((one) => one.id), ["a", "c", "d"]);
});

test("what is not known is ignored", () => {
  const roster = new Roster();
  assert.deepEqual(roster.apply({ type: "fireworks", participant: "bob" }), []);
  assert.deepEqual(roster.apply({ type: "track_muted", participant: "nobody", track: "x", muted: true }), []);
  assert.deepEqual(roster.participants, []);
});

test("the newest track of a source is shown", () => {
  const bob = person("bob", [{ ...CAMERA, id: "old" }, { ...CAMERA, id: "new" }]);
  assert.equal(trackOf(bob, "camera")?.id, "new");
  assert.equal(trackOf(bob, "screen"), undefined);
});
