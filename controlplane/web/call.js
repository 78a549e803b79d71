// SPDX-License-Identifier: Apache-2.0
// The media of one participant: what is sent, which slots show what. Whoever uses it says what should be; a single loop
// makes it so, one step after the other, and begins again where a step was lost with the connection.

import { addSender, addSlot, fitCamera, newPeer, shortened } from "./peer.js";
import { RequestError } from "./protocol.js";
import { assign, slotsFor } from "./slots.js";

/** A media connection that does not come up is tried anew after this long. */
const MEDIA_MS = 8000;
/** One that is interrupted may find back by itself for this long. */
const INTERRUPTED_MS = 3500;
/** A track that could not be shown is asked for again after this long. */
const REFUSED_MS = 2000;
/** After an error that is not the connection's the loop rests for this long. */
const REST_MS = 3000;

/**
 * @typedef {import("./protocol.js").Source} Source
 * @typedef {import("./protocol.js").Joined} Joined
 * @typedef {import("./slots.js").Wanted} Wanted
 * @typedef {"audio" | "video"} Kind
 * @typedef {object} Sending
 * @property {MediaStreamTrack | null} track
 * @property {boolean} muted
 * @property {boolean | null} told what the room was told about `muted`
 * @property {RTCRtpTransceiver | null} transceiver
 * @property {string | null} id the track's, once the server has said it
 * @typedef {import("./slots.js").Slot & {transceiver: RTCRtpTransceiver}} MediaSlot
 */

/** @returns {Sending} */
function notSent() {
  return { track: null, muted: true, told: null, transceiver: null, id: null };
}

/** Events: `slots` (what is shown changed), `link` (the media connection's state changed), `problem` (`{error}`). */
export class Call extends EventTarget {
  #connection;
  /** @type {RTCPeerConnection | null} */ #pc = null;
  /**
   * Microphone and camera have their sections from the first offer on, silent where there is no device: turning one on
   * takes no offer, and Chromium takes no simulcast that comes later than slots.
   * @type {Map<Source, Sending>}
   */
  #sending = new Map([["microphone", notSent()], ["camera", notSent()]]);
  /** @type {Record<Kind, MediaSlot[]>} */ #slots = { audio: [], video: [] };
  /** @type {Record<Kind, Wanted[]>} */ #wanted = { audio: [], video: [] };
  /** @type {Map<string, number>} */ #refused = new Map();
  #limit = 49;
  #needsPeer = true;
  #needsOffer = false;
  #isWorking = false;
  #isDirty = false;
  #isOver = false;
  #restsUntil = 0;
  /** @type {any} */ #mediaTimer = undefined;
  /** @type {any} */ #interruption = undefined;

  /** @param {import("./protocol.js").Connection} connection */
  constructor(connection) {
    super();
    this.#connection = connection;
  }

  /** @returns {RTCPeerConnection | null} for statistics */
  get pc() {
    return this.#pc;
  }

  /** @returns {"connecting" | "connected" | "interrupted"} */
  get link() {
    const state = this.#pc?.iceConnectionState;
    if (state === "connected" || state === "completed") return "connected";
    return state === "disconnected" || state === "failed" ? "interrupted" : "connecting";
  }

  /**
   * The room was entered, or entered again.
   *
   * @param {Joined} joined
   */
  entered(joined) {
    this.#limit = joined.limits?.slots_per_kind ?? this.#limit;
    const isUp = this.link === "connected" && !this.#needsPeer;
    if (joined.transport === "kept" && isUp) this.#adopt(joined);
    else this.#needsPeer = true;
    this.#work();
  }

  /** What the server says it still has. @param {Joined} joined */
  #adopt(joined) {
    const shown = new Map((joined.slots ?? []).map((slot) => [slot.mid, slot.track]));
    for (const slot of [...this.#slots.audio, ...this.#slots.video]) slot.track = shown.get(slot.mid) ?? null;
    const ids = new Map((joined.tracks ?? []).map((track) => [track.mid, track.track]));
    for (const sending of this.#sending.values()) {
      sending.id = ids.get(sending.transceiver?.mid ?? "") ?? null;
      sending.told = null;
      if (sending.id === null) this.#needsPeer = true;
    }
  }

  /**
   * Sends a track, or another one in its place. Without a track the section stays, silent.
   *
   * @param {Source} source
   * @param {MediaStreamTrack | null} track
   * @param {boolean} muted
   */
  send(source, track, muted) {
    const sending = this.#sending.get(source);
    if (sending === undefined) {
      if (track === null) return;
      this.#sending.set(source, { ...notSent(), track, muted });
      this.#needsOffer = true;
    } else {
      sending.muted = muted;
      if (sending.track !== track) {
        sending.track = track;
        void sending.transceiver?.sender.replaceTrack(track).then(() => this.#fit(sending)).catch(() => {});
      }
    }
    this.#work();
  }

  /** Ends the track of a source. @param {Source} source */
  stop(source) {
    const sending = this.#sending.get(source);
    if (sending === undefined) return;
    this.#sending.delete(source);
    if (sending.transceiver !== null) {
      void sending.transceiver.sender.replaceTrack(null).catch(() => {});
      sending.transceiver.direction = "inactive";
      this.#needsOffer = true;
    }
    this.#work();
  }

  /** @param {Kind} kind @param {Wanted[]} wanted the most important first */
  want(kind, wanted) {
    this.#wanted[kind] = wanted;
    this.#work();
  }

  /** A track has ended: the server has emptied its slot. @param {string} track */
  forget(track) {
    for (const slot of [...this.#slots.audio, ...this.#slots.video]) if (slot.track === track) slot.track = null;
  }

  /** @param {string} track @returns {MediaStreamTrack | null} what the browser receives of it */
  mediaOf(track) {
    const slot = [...this.#slots.audio, ...this.#slots.video].find((one) => one.track === track);
    return slot?.transceiver.receiver.track ?? null;
  }

  /** @returns {{track: string, receiver: RTCRtpReceiver}[]} the sounds that are received */
  get sounds() {
    return this.#slots.audio.flatMap(({ track, transceiver }) => (track === null ? [] : [{ track, receiver: transceiver.receiver }]));
  }

  /** Every sound's media, shown or not: they are played all the time. @returns {MediaStreamTrack[]} */
  get soundTracks() {
    return this.#slots.audio.map((slot) => slot.transceiver.receiver.track);
  }

  /** Begins the media connection anew. */
  restart() {
    this.#needsPeer = true;
    this.#work();
  }

  /** Ends everything. */
  close() {
    this.#isOver = true;
    clearTimeout(this.#mediaTimer);
    clearTimeout(this.#interruption);
    this.#pc?.close();
    this.#pc = null;
  }

  // ---- the loop ----

  #work() {
    this.#isDirty = true;
    if (this.#isWorking) return;
    this.#isWorking = true;
    // In a microtask: changes that come together become one offer.
    queueMicrotask(() => void this.#loop());
  }

  async #loop() {
    while (this.#isDirty && !this.#isOver && this.#connection.state === "joined" && performance.now() >= this.#restsUntil) {
      this.#isDirty = false;
      try {
        if (this.#needsPeer) await this.#offer(true);
        else if (this.#needsOffer || this.#lacksSlots()) await this.#offer(false);
        await this.#tellMutes();
        await this.#subscribe("audio");
        await this.#subscribe("video");
      } catch (error) {
        this.#failed(error);
      }
    }
    this.#isWorking = false;
  }

  /** @param {unknown} error */
  #failed(error) {
    if (this.#isOver) return;
    const code = error instanceof RequestError ? error.code : "";
    // After a lost connection `entered` begins again; half an offer is no use then.
    if (code === "connection_lost" || code === "timeout") return;
    if (code === "restart_needed") return this.restart();
    this.#restsUntil = performance.now() + REST_MS;
    setTimeout(() => this.#work(), REST_MS + 50);
    this.dispatchEvent(new CustomEvent("problem", { detail: { error } }));
  }

  #lacksSlots() {
    return /** @type {Kind[]} */ (["audio", "video"]).some((kind) => this.#slotCount(kind) > this.#slots[kind].length);
  }

  /** @param {Kind} kind */
  #slotCount(kind) {
    return slotsFor(this.#wanted[kind].length, this.#slots[kind].length, this.#limit);
  }

  /** @param {boolean} isNew a new PeerConnection */
  async #offer(isNew) {
    const pc = isNew || this.#pc === null ? this.#newPeer() : this.#pc;
    // Until the answer is there a failure means beginning anew.
    this.#needsPeer = true;
    this.#needsOffer = false;
    for (const [source, sending] of this.#sending) {
      if (sending.transceiver !== null) continue;
      sending.transceiver = addSender(pc, source, sending.track);
    }
    for (const kind of /** @type {Kind[]} */ (["audio", "video"])) {
      const missing = this.#slotCount(kind) - this.#slots[kind].length;
      for (let count = 0; count < missing; count += 1) {
        this.#slots[kind].push({ mid: "", track: null, height: undefined, transceiver: addSlot(pc, kind) });
      }
    }
    await pc.setLocalDescription();
    const sent = [...this.#sending].filter(([, sending]) => sending.transceiver !== null);
    const tracks = sent.map(([source, sending]) => ({ mid: sending.transceiver?.mid ?? "", source, muted: sending.muted }));
    for (const [, sending] of sent) sending.told = sending.muted;
    const sdp = shortened(pc.localDescription?.sdp ?? "");
    const answer = await this.#connection.request({ type: "offer", sdp, restart: isNew, tracks });
    if (this.#pc !== pc) return;
    await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    await this.#fit(this.#sending.get("camera"));
    this.#needsPeer = false;
    this.#answered(answer);
    if (isNew) this.#expectMedia(pc);
    this.#changed("slots");
  }

  /** @param {Sending | undefined} sending */
  async #fit(sending) {
    if (sending === undefined || sending !== this.#sending.get("camera")) return;
    const { track, transceiver } = sending;
    // What is refused stays as it was offered.
    if (track !== null && transceiver !== null) await fitCamera(transceiver.sender, track).catch(() => {});
  }

  /** @param {{tracks?: {mid: string, track: string}[], rejected?: {mid: string, reason: string}[]}} answer */
  #answered(answer) {
    const ids = new Map((answer.tracks ?? []).map((track) => [track.mid, track.track]));
    for (const sending of this.#sending.values()) sending.id = ids.get(sending.transceiver?.mid ?? "") ?? sending.id;
    const rejected = new Map((answer.rejected ?? []).map((one) => [one.mid, one.reason]));
    for (const kind of /** @type {Kind[]} */ (["audio", "video"])) {
      for (const slot of this.#slots[kind]) slot.mid = slot.transceiver.mid ?? "";
      this.#slots[kind] = this.#slots[kind].filter((slot) => !rejected.has(slot.mid));
    }
    for (const [source, sending] of this.#sending) {
      const reason = rejected.get(sending.transceiver?.mid ?? "");
      if (reason === undefined) continue;
      this.#sending.delete(source);
      const error = new Error(`The server does not take the ${source}: ${reason}`);
      this.dispatchEvent(new CustomEvent("problem", { detail: { error } }));
    }
  }

  /** @returns {RTCPeerConnection} */
  #newPeer() {
    this.#pc?.close();
    const pc = newPeer();
    this.#pc = pc;
    this.#slots = { audio: [], video: [] };
    for (const sending of this.#sending.values()) Object.assign(sending, { transceiver: null, id: null });
    pc.addEventListener("iceconnectionstatechange", () => this.#pc === pc && this.#linked(pc));
    pc.addEventListener("connectionstatechange", () => {
      if (this.#pc === pc && pc.connectionState === "failed") this.restart();
    });
    return pc;
  }

  /** @param {RTCPeerConnection} pc */
  #linked(pc) {
    this.#changed("link");
    clearTimeout(this.#interruption);
    if (pc.iceConnectionState === "failed") return this.restart();
    if (pc.iceConnectionState !== "disconnected") return;
    // The signalling knows sooner whether the network is gone or only this path.
    this.#connection.hurry();
    this.#interruption = setTimeout(() => {
      if (this.#pc === pc && this.link !== "connected" && this.#connection.state === "joined") this.restart();
    }, INTERRUPTED_MS);
  }

  /** @param {RTCPeerConnection} pc */
  #expectMedia(pc) {
    clearTimeout(this.#mediaTimer);
    this.#mediaTimer = setTimeout(() => {
      if (this.#pc !== pc || pc.connectionState === "connected" || this.#connection.state !== "joined") return;
      this.dispatchEvent(new CustomEvent("problem", { detail: { error: new RequestError("no_media", "No media connection") } }));
      this.restart();
    }, MEDIA_MS);
  }

  async #tellMutes() {
    for (const sending of this.#sending.values()) {
      const { id, muted } = sending;
      if (id === null || sending.told === muted) continue;
      await this.#connection.request({ type: "mute", track: id, muted });
      sending.told = muted;
      this.#isDirty ||= sending.muted !== muted;
    }
  }

  /** @param {Kind} kind */
  async #subscribe(kind) {
    const now = performance.now();
    const wanted = this.#wanted[kind].filter(({ track }) => (this.#refused.get(track) ?? 0) <= now);
    const changes = assign(wanted, this.#slots[kind]);
    if (changes.length === 0) return;
    const reply = await this.#connection.request({ type: "subscribe", slots: changes });
    const refused = new Set((reply.refused ?? []).map((/** @type {{mid: string}} */ one) => one.mid));
    for (const { mid, track, max_height } of changes) {
      const slot = this.#slots[kind].find((one) => one.mid === mid);
      if (slot === undefined) continue;
      if (!refused.has(mid)) Object.assign(slot, { track, height: max_height });
      else if (track !== null) this.#refuse(track);
    }
    this.#changed("slots");
  }

  /** @param {string} track */
  #refuse(track) {
    this.#refused.set(track, performance.now() + REFUSED_MS);
    setTimeout(() => this.#refused.delete(track) && this.#work(), REFUSED_MS + 50);
  }

  /** @param {string} type */
  #changed(type) {
    this.dispatchEvent(new Event(type));
  }
}
