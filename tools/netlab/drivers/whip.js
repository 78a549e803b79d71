// SPDX-License-Identifier: Apache-2.0
/**
 * The door of WHIP and WHEP (RFC 9725): one peer connection for each direction and participant, as foreign clients use
 * it. `room.js` is the door of the page.
 */
(() => {
  "use strict";

  const watched = new Map();
  let config;
  let captured;
  let published;

  async function start(given) {
    config = given;
  }

  async function capture() {
    const own = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    captured = await window.senses.capture(own, config, { audio: true, video: true });
    return captured.getTracks().map((track) => `${track.kind}: ${track.label}`);
  }

  /** Offers, posts, takes the answer. */
  async function negotiate(pc, path) {
    await pc.setLocalDescription();
    const startedAt = performance.now();
    const headers = { "content-type": "application/sdp" };
    const response = await fetch(path, { method: "POST", headers, body: pc.localDescription.sdp });
    const sdp = await response.text();
    const answeredAt = performance.now();
    if (response.status !== 201) throw new Error(`POST ${path}: ${response.status} ${sdp}`);
    await pc.setRemoteDescription({ type: "answer", sdp });
    return { pc, resource: response.headers.get("location"), startedAt, ms: answeredAt - startedAt };
  }

  async function end({ pc, resource }) {
    pc.close();
    await fetch(resource, { method: "DELETE" });
  }

  const newPeer = () => new RTCPeerConnection({ bundlePolicy: "max-bundle" });

  /** Publishes; milliseconds from the POST to its answer. */
  async function join({ room, name }) {
    if (captured === undefined) await capture();
    const pc = newPeer();
    for (const track of captured.getTracks()) pc.addTransceiver(track, { direction: "sendonly" });
    published = await negotiate(pc, `/whip/${room}?name=${encodeURIComponent(name)}`);
    return { answerMs: published.ms, at: performance.timeOrigin + published.startedAt };
  }

  /** Plays the tracks of a peer connection and watches for the first frame. */
  function play(pc) {
    const tracks = pc.getReceivers().map((receiver) => receiver.track);
    const video = document.createElement("video");
    Object.assign(video, { autoplay: true, playsInline: true, muted: true, srcObject: new MediaStream(tracks) });
    video.style.cssText = "position:fixed;left:0;top:0;width:160px;height:90px;z-index:9";
    document.body.append(video);
    const firstFrame = new Promise((resolve) => {
      video.requestVideoFrameCallback(() => resolve(performance.timeOrigin + performance.now()));
    });
    video.play().catch((error) => console.log(`play: ${error.message}`));
    const sound = new MediaStream(tracks.filter((track) => track.kind === "audio"));
    return { video, sound, analyser: window.senses.liveAnalyser(sound), firstFrame };
  }

  /** Begins to watch; where a lab swaps people, `ask` is not who is claimed to be seen. */
  async function watch({ room, claim, ask }) {
    const pc = newPeer();
    for (const kind of ["audio", "video"]) pc.addTransceiver(kind, { direction: "recvonly" });
    const handle = await negotiate(pc, `/whep/${room}/${ask}`);
    watched.set(claim, { handle, ...play(pc) });
    return { at: performance.timeOrigin + handle.startedAt, answerMs: handle.ms };
  }

  /** When the first frame was shown, in milliseconds of the epoch; null when none comes. */
  async function firstFrame({ claim, timeoutMs }) {
    const timeout = new Promise((resolve) => setTimeout(() => resolve(null), timeoutMs));
    return { at: await Promise.race([watched.get(claim).firstFrame, timeout]) };
  }

  function mute() {
    for (const track of captured.getAudioTracks()) track.enabled = false;
  }

  async function sample() {
    const views = {};
    for (const [claim, { handle }] of watched) views[claim] = await window.senses.statistics(handle.pc);
    return { at: performance.now(), views, published: published ? await window.senses.statistics(published.pc) : null };
  }

  async function perceive() {
    const seen = [...watched].map(async ([claim, { video, sound, analyser }]) => {
      return [claim, await window.senses.perceive(video, sound, analyser)];
    });
    return Object.fromEntries(await Promise.all(seen));
  }

  async function leave() {
    for (const { handle, video } of watched.values()) {
      video.remove();
      await end(handle);
    }
    watched.clear();
    if (published !== undefined) await end(published);
    published = undefined;
  }

  window.lab = { start, join, watch, firstFrame, mute, sample, perceive, leave };
})();
