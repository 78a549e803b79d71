// SPDX-License-Identifier: Apache-2.0
// The client against a server of a few lines, in its own time: `mock.timers` moves the clock.
import assert from "node:assert/strict";
import test, { mock } from "node:test";

import { Connection, socketUrl } from "../protocol.js";

/** @typedef {{[member: string]: any}} Json */

/** A socket whose other end is the test. */
class FakeSocket {
  /** @type {any} */ onopen = null;
  /** @type {any} */ onmessage = null;
  /** @type {any} */ onclose = null;
  /** @type {any} */ onerror = null;
  readyState = 0;
  protocol = "millrace.v1";
  isClosed = false;
  /** @type {Json[]} */ sent = [];

  /** @param {string} text */
  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.isClosed = true;
  }

  /** @returns {Json} the last that was sent */
  get last() {
    return this.sent.at(-1) ?? {};
  }

  /** @param {Json} message to the client */
  says(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

/** All promises that can settle do. */
const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};

/** @param {number} ms */
async function pass(ms) {
  for (let step = 0; step < ms; step += 50) {
    mock.timers.tick(50);
    await settle();
  }
}

/** Time passes until another socket is opened: 4 s at most. @param {FakeSocket[]} sockets */
async function untilNext(sockets) {
  const before = sockets.length;
  for (let step = 0; sockets.length === before && step < 80; step += 1) await pass(50);
  assert.equal(sockets.length, before + 1);
}

function setUp() {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  /** @type {FakeSocket[]} */
  const sockets = [];
  const connection = new Connection("ws://x/api/v1/ws", (url, protocol) => {
    assert.equal(protocol, "millrace.v1");
    const socket = new FakeSocket();
    sockets.push(socket);
    return /** @type {any} */ (socket);
  });
  /** @type {[string, any][]} */
  const told = [];
  for (const type of ["state", "joined", "event", "ended"]) {
    connection.addEventListener(type, (event) => told.push([type, /** @type {CustomEvent} */ (event).detail]));
  }
  return { connection, sockets, told };
}

const joinedReply = (/** @type {number} */ id, /** @type {Json} */ more = {}) => ({
  type: "joined", id, room: "standup", self: "ada", resume: "token1", resume_ttl_s: 60, resumed: false, transport: "none", participants: [], ...more,
});

async function joined() {
  const bed = setUp();
  const joining = bed.connection.join({ room: "standup", name: "Ada" });
  const socket = /** @type {FakeSocket} */ (bed.sockets[0]);
  socket.onopen();
  await settle();
  socket.says(joinedReply(socket.last.id));
  await joining;
  return { ...bed, socket };
}

test("the socket is beside the page", () => {
  assert.equal(socketUrl(/** @type {any} */ ({ protocol: "https:", host: "meet.example" })), "wss://meet.example/api/v1/ws");
  assert.equal(socketUrl(/** @type {any} */ ({ protocol: "http:", host: "localhost:8080" })), "ws://localhost:8080/api/v1/ws");
});

test("joins, and gets each reply for its own request", async () => {
  const { connection, socket, told } = await joined();
  assert.deepEqual(socket.sent[0], { type: "join", id: 1, room: "standup", name: "Ada" });
  assert.equal(connection.state, "joined");
  const [one, other] = [connection.request({ type: "mute", track: "a", muted: true }), connection.request({ type: "subscribe", slots: [] })];
  const [muteId, subscribeId] = socket.sent.slice(1).map((message) => message.id);
  socket.says({ type: "subscribed", id: subscribeId, slots: [] });
  socket.says({ type: "error", id: muteId, code: "unknown_track", message: "no", field: "track" });
  assert.equal((await other).type, "subscribed");
  await assert.rejects(one, { code: "unknown_track", field: "track" });
  socket.says({ type: "transport", state: "secured" });
  socket.onmessage({ data: "{" });
  assert.deepEqual(told.filter(([type]) => type === "event"), [["event", { type: "transport", state: "secured" }]]);
});

test("a refused join says why and ends", async () => {
  const { connection, sockets, told } = setUp();
  const joining = connection.join({ room: "standup", name: "Ada", token: "t" });
  sockets[0]?.onopen();
  await settle();
  assert.equal(sockets[0]?.last.token, "t");
  sockets[0]?.says({ type: "error", id: 1, code: "room_full", message: "full", field: "room" });
  await assert.rejects(joining, { code: "room_full" });
  assert.equal(connection.state, "ended");
  assert.ok(!told.some(([type]) => type === "ended"));
});

test("a server that is not there is said to be unreachable", async () => {
  const { connection, sockets } = setUp();
  const joining = connection.join({ room: "standup", name: "Ada" });
  sockets[0]?.onerror();
  await assert.rejects(joining, { code: "unreachable" });
});

test("a lost socket is resumed with the token, at once", async () => {
  const { connection, sockets, socket, told } = await joined();
  const waiting = connection.request({ type: "subscribe", slots: [] });
  socket.onclose({ code: 1006 });
  await assert.rejects(waiting, { code: "connection_lost" });
  assert.equal(connection.state, "reconnecting");
  await pass(50);
  const next = /** @type {FakeSocket} */ (sockets[1]);
  next.onopen();
  await settle();
  assert.deepEqual({ ...next.last, id: 0 }, { type: "join", id: 0, resume: "token1" });
  next.says(joinedReply(next.last.id, { resumed: true, resume: "token2", transport: "kept" }));
  await settle();
  assert.equal(connection.state, "joined");
  assert.equal(connection.resumeToken, "token2");
  assert.equal(told.filter(([type]) => type === "joined").length, 2);
});

test("when the token is unknown it joins anew, with the name", async () => {
  const { sockets, socket, connection } = await joined();
  socket.onclose({ code: 1012 });
  await pass(50);
  sockets[1]?.onopen();
  await settle();
  sockets[1]?.says({ type: "error", id: sockets[1].last.id, code: "resume_unknown", message: "", field: "resume" });
  await settle();
  const last = /** @type {FakeSocket} */ (sockets.at(-1));
  last.onopen();
  await settle();
  assert.deepEqual({ ...last.last, id: 0 }, { type: "join", id: 0, room: "standup", name: "Ada" });
  last.says(joinedReply(last.last.id));
  await settle();
  assert.equal(connection.state, "joined");
});

test("it goes on trying while the server is away, and stops when it says no", async () => {
  const { sockets, socket, connection, told } = await joined();
  socket.onclose({ code: 1006 });
  for (let turn = 1; turn <= 40; turn += 1) {
    await untilNext(sockets);
    assert.equal(connection.state, "reconnecting");
    sockets.at(-1)?.onerror();
    await settle();
  }
  await untilNext(sockets);
  sockets.at(-1)?.onopen();
  await settle();
  sockets.at(-1)?.says({ type: "error", id: sockets.at(-1)?.last.id, code: "unauthorized", message: "", field: "token" });
  await settle();
  assert.deepEqual(told.at(-1), ["ended", { reason: "unauthorized" }]);
});

test("final close codes are not resumed", async () => {
  for (const [code, reason] of /** @type {[number, string][]} */ ([[4000, "replaced"], [4003, "removed"], [4008, "broken"], [1009, "broken"]])) {
    const { sockets, socket, told } = await joined();
    socket.onclose({ code });
    await pass(5000);
    assert.equal(sockets.length, 1);
    assert.deepEqual(told.at(-1), ["ended", { reason }]);
  }
});

test("a silent server is asked, and given up when it does not answer", async () => {
  const { sockets, socket, connection } = await joined();
  await pass(6000);
  assert.equal(socket.last.type, "ping");
  socket.says({ type: "pong", id: socket.last.id });
  await pass(1000);
  assert.equal(connection.state, "joined");
  await pass(8000);
  assert.equal(connection.state, "reconnecting");
  assert.ok(socket.isClosed);
  assert.ok(sockets.length > 1);
});

test("hurry tries at once instead of waiting", async () => {
  const { sockets, socket, connection } = await joined();
  socket.onclose({ code: 1006 });
  for (let turn = 0; turn < 8; turn += 1) {
    await pass(2000);
    sockets.at(-1)?.onerror?.();
    await settle();
  }
  const before = sockets.length;
  connection.hurry();
  await settle();
  assert.equal(sockets.length, before + 1);
});

test("leaving ends everything", async () => {
  const { connection, socket, sockets, told } = await joined();
  const leaving = connection.leave();
  assert.equal(socket.last.type, "leave");
  socket.says({ type: "left", id: socket.last.id });
  await leaving;
  await pass(5000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(told.at(-1), ["ended", { reason: "left" }]);
  await assert.rejects(connection.request({ type: "ping" }), { code: "connection_lost" });
});
