// SPDX-License-Identifier: Apache-2.0
// One RTCPeerConnection as the server wants it: sections that send, slots that receive, an offer short enough to send.

/** @typedef {import("./protocol.js").Source} Source */

/** Codecs of a picture by preference; others are left out, or an offer of many slots would not fit into a message. */
const VIDEO_CODECS = ["video/VP8", "video/H264", "video/VP9", "video/rtx"];
const AUDIO_CODECS = ["audio/opus"];

/** Simulcast of a camera, the smallest first; from this height on there are three. */
const LARGE_HEIGHT = 540;
/** @type {RTCRtpEncodingParameters[]} */
const LARGE = [
  { rid: "l", active: true, scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "m", active: true, scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "h", active: true, scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];
/** @type {RTCRtpEncodingParameters[]} */
const SMALL = [
  { rid: "l", active: true, scaleResolutionDownBy: 2, maxBitrate: 150_000 },
  { rid: "m", active: true, scaleResolutionDownBy: 1, maxBitrate: 600_000 },
  { rid: "h", active: false, scaleResolutionDownBy: 1, maxBitrate: 600_000 },
];

/** @returns {boolean} */
export function hasWebRtc() {
  return typeof RTCPeerConnection !== "undefined";
}

/** @returns {RTCPeerConnection} */
export function newPeer() {
  // The server is ICE-lite with public candidates: no STUN or TURN server is needed.
  return new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: [] });
}

/**
 * @param {RTCPeerConnection} pc
 * @param {Source} source
 * @param {MediaStreamTrack | null} track
 * @returns {RTCRtpTransceiver}
 */
export function addSender(pc, source, track) {
  const kind = source === "camera" || source === "screen" ? "video" : "audio";
  const init = /** @type {RTCRtpTransceiverInit} */ ({ direction: "sendonly", streams: [new MediaStream()] });
  if (source === "camera") init.sendEncodings = LARGE.map((encoding) => ({ ...encoding }));
  if (source === "screen") init.sendEncodings = [{ maxBitrate: 2_500_000 }];
  const transceiver = pc.addTransceiver(track ?? kind, init);
  prefer(transceiver, kind === "video" ? ["video/VP8", "video/rtx"] : AUDIO_CODECS);
  return transceiver;
}

/** @param {RTCPeerConnection} pc @param {"audio" | "video"} kind @returns {RTCRtpTransceiver} */
export function addSlot(pc, kind) {
  const transceiver = pc.addTransceiver(kind, { direction: "recvonly" });
  prefer(transceiver, kind === "video" ? VIDEO_CODECS : AUDIO_CODECS);
  return transceiver;
}

/**
 * Makes what is sent of a camera fit its size: of a small one only two encodings, or a browser that sends fewer than it
 * was asked for would leave out the largest.
 *
 * @param {RTCRtpSender} sender
 * @param {MediaStreamTrack} track
 */
export async function fitCamera(sender, track) {
  const { width = 0, height = 0 } = track.getSettings();
  const wanted = Math.min(width, height) >= LARGE_HEIGHT ? LARGE : SMALL;
  const parameters = sender.getParameters();
  const isSame = parameters.encodings?.every((encoding, at) => encoding.active === wanted[at]?.active && encoding.scaleResolutionDownBy === wanted[at]?.scaleResolutionDownBy);
  if (isSame || parameters.encodings?.length !== wanted.length) return;
  for (const [at, encoding] of parameters.encodings.entries()) Object.assign(encoding, wanted[at]);
  await sender.setParameters(parameters);
}

/** @param {RTCRtpTransceiver} transceiver @param {string[]} order media types; where the browser cannot choose, all stay */
function prefer(transceiver, order) {
  const kind = transceiver.receiver.track.kind;
  const known = RTCRtpReceiver.getCapabilities?.(kind)?.codecs ?? [];
  const chosen = order.flatMap((type) => known.filter((codec) => isSame(codec, type) && isPlain(codec)));
  if (chosen.length === 0) return;
  try {
    transceiver.setCodecPreferences(chosen);
  } catch {
    // Some browsers refuse codecs of their own list; their default order then stands.
  }
}

/** @param {{mimeType: string}} codec @param {string} type */
function isSame(codec, type) {
  return codec.mimeType.toLowerCase() === type.toLowerCase();
}

/** One form of each codec suffices: H.264 constrained baseline in packetization mode 1, VP9 profile 0. @param {{mimeType: string, sdpFmtpLine?: string}} codec */
function isPlain(codec) {
  const line = codec.sdpFmtpLine ?? "";
  if (isSame(codec, "video/H264")) return /packetization-mode=1/.test(line) && /profile-level-id=42e0/i.test(line);
  if (isSame(codec, "video/VP9")) return !/profile-id=[1-9]/.test(line);
  return true;
}

/**
 * The offer without what the server does not need: candidates (it answers whoever checks), in sections of a bundle what
 * the first one says for all of them (RFC 9143 §7.1.3; RFC 8829 §5.2.1), and feedback of codecs that are not offered,
 * which Firefox leaves behind when codecs are chosen.
 *
 * @param {string} sdp
 * @returns {string}
 */
export function shortened(sdp) {
  const [head = "", ...sections] = sdp.split(/(?=^m=)/m);
  const kept = sections.map((section, at) => {
    const lines = section.split("\r\n").filter((line) => line !== "");
    const payloads = new Set((lines[0] ?? "").split(" ").slice(3));
    return lines.filter((line) => !isNeedless(line, payloads, at > 0)).join("\r\n") + "\r\n";
  });
  return head + kept.join("");
}

/** @param {string} line @param {Set<string>} payloads @param {boolean} isBundled */
function isNeedless(line, payloads, isBundled) {
  if (/^a=(candidate:|end-of-candidates|ice-options:|rtcp:)/.test(line)) return true;
  const about = /^a=(?:rtpmap|fmtp|rtcp-fb):(\d+)/.exec(line)?.[1];
  if (about !== undefined && !payloads.has(about)) return true;
  return isBundled && /^a=(ice-ufrag:|ice-pwd:|fingerprint:|setup:)/.test(line);
}
