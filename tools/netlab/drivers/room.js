// SPDX-License-Identifier: Apache-2.0
/**
 * The door of the page: what a person clicks is clicked, what a person sees is looked at. It stands in front of the page's
 * scripts and listens to what they say (WebSocket, PeerConnection, cameras); it changes nothing but the camera's picture and
 * the microphone's processing.
 */
(() => {
  "use strict";

  /** Until an analyser is full: FFT_SIZE samples and some. */
  const EAR_MS = 800;

  const NativePeer = window.RTCPeerConnection;
  const NativeSocket = window.WebSocket;
  const own = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
  const peers = [];
  const captured = [];
  /** Participant id → its tracks by id, as the server told. */
  const participants = new Map();
  /** mid → track id. */
  const slots = new Map();
  /** Name on a tile → when its first frame was shown. */
  const frames = new Map();
  const analysers = new Map();
  const asked = new Map();
  const answerMs = [];
  const config = window.labConfig;

  const epoch = () => performance.timeOrigin + performance.now();
  const find = (id) => document.getElementById(id);

  window.RTCPeerConnection = class extends NativePeer {
    constructor(...given) {
      super(...given);
      peers.push(this);
    }
  };

  window.WebSocket = class extends NativeSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", (event) => hear(JSON.parse(event.data)));
    }

    send(text) {
      const message = JSON.parse(text);
      if (message.type === "offer") asked.set(message.id, performance.now());
      super.send(text);
    }
  };

  if (own !== undefined) {
    navigator.mediaDevices.getUserMedia = async (constraints) => {
      const wish = { audio: Boolean(constraints.audio), video: Boolean(constraints.video) };
      const stream = await window.senses.capture(own, config, wish);
      captured.push(...stream.getTracks());
      return stream;
    };
  }

  /** Follows the room by the server's words. */
  function hear(message) {
    const known = (id) => participants.get(id) ?? participants.set(id, new Map()).get(id);
    const adopt = (participant) => {
      participants.set(participant.id, new Map(participant.tracks.map((track) => [track.id, track])));
    };
    switch (message.type) {
      case "joined":
        participants.clear();
        message.participants.forEach(adopt);
        if (message.slots !== undefined) message.slots.forEach(({ mid, track }) => slots.set(mid, track));
        break;
      case "participant_joined":
        adopt(message.participant);
        break;
      case "participant_left":
        participants.delete(message.participant);
        break;
      case "track_published":
        known(message.participant).set(message.track.id, message.track);
        break;
      case "track_unpublished":
        known(message.participant).delete(message.track);
        break;
      case "answer":
        if (asked.has(message.id)) answerMs.push(performance.now() - asked.get(message.id));
        break;
      case "subscribed":
        for (const { mid, track } of message.slots) slots.set(mid, track);
        break;
    }
  }

  const tiles = () => [...document.querySelectorAll("#stage .tile")];
  const nameOf = (tile) => tile.querySelector(".tile-name")?.textContent.trim() ?? "";
  const tileOf = (name) => tiles().find((tile) => nameOf(tile) === name);

  /** Notes the first frame of every picture on a tile. */
  function watchTiles() {
    const seen = new WeakSet();
    setInterval(() => {
      for (const tile of tiles()) {
        const video = tile.querySelector("video");
        const track = video?.srcObject?.getVideoTracks()[0];
        if (track === undefined || seen.has(track)) continue;
        seen.add(track);
        const name = nameOf(tile);
        video.requestVideoFrameCallback(() => frames.has(name) || frames.set(name, epoch()));
      }
    }, 10);
  }

  async function until(what, holds, timeoutMs = 20_000) {
    const end = performance.now() + timeoutMs;
    while (!holds()) {
      if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms for ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async function start() {
    watchTiles();
  }

  /** Through the prejoin page, by its own button; returns when the button was pressed. */
  async function join({ name }) {
    await until("the prejoin page", () => find("prejoin") !== null && !find("prejoin").hidden);
    await until("the camera's preview", () => find("preview-video").readyState >= 2 && !find("preview-video").hidden);
    find("prejoin-name").value = name;
    find("prejoin-name").dispatchEvent(new Event("input", { bubbles: true }));
    frames.clear();
    answerMs.length = 0;
    const at = epoch();
    find("join").click();
    await until("the room", () => !find("room").hidden);
    await until("the answer to the offer", () => answerMs.length > 0);
    return { at, answerMs: answerMs[0] };
  }

  /** When the first frame was shown on the tile with this name, in milliseconds of the epoch; null when none comes. */
  async function firstFrame({ claim, timeoutMs }) {
    await until("a frame", () => frames.has(claim), timeoutMs).catch(() => {});
    return { at: frames.get(claim) ?? null };
  }

  function mute() {
    for (const track of captured) if (track.kind === "audio") track.enabled = false;
  }

  const peer = () => peers.findLast((pc) => pc.connectionState !== "closed");

  /** The receivers in whose slots a participant is shown. */
  function receiversOf(id) {
    const shown = new Map([...slots].map(([mid, track]) => [track, mid]));
    const mids = [...(participants.get(id)?.keys() ?? [])].map((track) => shown.get(track)).filter((mid) => mid !== undefined);
    const transceivers = peer()?.getTransceivers() ?? [];
    return mids.flatMap((mid) => transceivers.filter((one) => one.mid === mid).map((one) => one.receiver));
  }

  async function sample() {
    const pc = peer();
    const whole = await window.senses.statistics(pc);
    const views = {};
    for (const id of participants.keys()) {
      const view = await window.senses.statistics(pc, receiversOf(id));
      views[id] = { ...view, srtpCipher: whole.srtpCipher, tlsVersion: whole.tlsVersion };
    }
    return { at: performance.now(), views, published: { ...whole, audio: null, video: null } };
  }

  /** Opens an ear for each sound; one that has just been opened has heard nothing yet. */
  async function openEars() {
    let isNew = false;
    for (const id of participants.keys()) {
      const sound = receiversOf(id).map((receiver) => receiver.track).filter((track) => track.kind === "audio");
      const key = sound[0]?.id;
      if (key === undefined || analysers.has(key)) continue;
      analysers.set(key, window.senses.liveAnalyser(new MediaStream(sound)));
      isNew = true;
    }
    if (isNew) await new Promise((resolve) => setTimeout(resolve, EAR_MS));
  }

  async function perceive() {
    await openEars();
    const seen = [...participants.keys()].map(async (id) => {
      const video = tileOf(id)?.querySelector("video") ?? null;
      const tracks = receiversOf(id).map((receiver) => receiver.track);
      const sound = tracks.filter((track) => track.kind === "audio");
      return [id, await window.senses.perceive(video, new MediaStream(sound), analysers.get(sound[0]?.id) ?? null)];
    });
    return Object.fromEntries(await Promise.all(seen));
  }

  async function leave() {
    find("control-leave").click();
    await until("the farewell", () => !find("farewell").hidden);
  }

  window.lab = { start, join, firstFrame, mute, sample, perceive, leave };
})();
