// SPDX-License-Identifier: Apache-2.0
// What a person is told when something does not work: what it is, and what to do.

import { codeOf } from "./protocol.js";

/** @typedef {{title: string, text: string}} Words */

/** @type {Record<import("./devices.js").Problem, Words>} */
const DEVICES = {
  insecure: {
    title: "No camera or microphone on this page",
    text: "Browsers give them to secure pages only. Open this page by https, or as localhost on the server itself. You can join and listen.",
  },
  unsupported: {
    title: "This browser gives no camera or microphone",
    text: "Use a current Chrome, Edge, Firefox or Safari. You can join and listen.",
  },
  none: {
    title: "No camera or microphone found",
    text: "Plug one in and try again. You can also join and listen.",
  },
  "no-camera": {
    title: "No camera found",
    text: "Others will hear you and see your name. Plug a camera in and try again to be seen.",
  },
  "no-microphone": {
    title: "No microphone found",
    text: "Others will see you but not hear you. Plug a microphone in and try again.",
  },
  denied: {
    title: "Camera and microphone are not allowed",
    text: "Click the icon beside the address, allow them for this page, then try again. You can also join and listen.",
  },
  busy: {
    title: "A device is in use",
    text: "Another program holds the camera or the microphone. Close it there and try again.",
  },
  other: {
    title: "A device does not start",
    text: "Unplug it, plug it in and try again. You can also join and listen.",
  },
};

/** @param {import("./devices.js").Problem} problem @returns {Words} */
export function deviceWords(problem) {
  return DEVICES[problem];
}

/** @type {Record<string, Words>} */
const REFUSALS = {
  room_full: { title: "The meeting is full", text: "Nobody else can join at the moment. Try again when somebody has left." },
  server_full: { title: "The server is full", text: "It can take no more people at the moment. Try again in a minute." },
  rate_limited: { title: "Too many tries", text: "Too many people join from your address at once. Wait a few seconds and try again." },
  unauthorized: { title: "An access token is needed", text: "This server lets in people with a token. Enter yours below and join." },
  forbidden: { title: "Your token is not for this meeting", text: "Ask whoever sent it for one that fits this room." },
  bad_room: { title: "This link leads to no meeting", text: "A room's name has small letters, digits and hyphens only. Check the link." },
  bad_name: { title: "This name cannot be used", text: "Use up to 64 characters, with at least one letter or digit." },
  unreachable: { title: "The server cannot be reached", text: "Check your connection. If it works for other pages, the server may be down: try again soon." },
  timeout: { title: "The server does not answer", text: "It may be restarting. Try again in a moment." },
  no_webrtc: { title: "This browser cannot hold calls", text: "WebRTC is missing or switched off. Use a current Chrome, Edge, Firefox or Safari." },
};

/** @param {unknown} error of joining @returns {Words} */
export function refusalWords(error) {
  const code = codeOf(error);
  const known = REFUSALS[code === "connection_lost" ? "unreachable" : code];
  if (known !== undefined) return known;
  return { title: "Joining did not work", text: `${error instanceof Error ? error.message : error}` };
}

/** @type {Record<string, Words & {icon: string, action: string}>} */
const ENDS = {
  left: { title: "You left the meeting", text: "", icon: "wave", action: "Rejoin" },
  replaced: {
    title: "The meeting goes on in another tab",
    text: "You opened it there, so this tab has let go of it.",
    icon: "tabs",
    action: "Join here as well",
  },
  removed: { title: "You were removed from the meeting", text: "Whoever runs this server has ended your part in it.", icon: "leave", action: "Join again" },
  broken: { title: "This page lost its thread", text: "The server did not understand it and hung up. Joining again usually helps.", icon: "warning", action: "Join again" },
};

/** @param {string} reason why a meeting ended here @returns {Words & {icon: string, action: string}} */
export function endWords(reason) {
  const known = ENDS[reason];
  if (known !== undefined) return known;
  const refusal = REFUSALS[reason] ?? { title: "The meeting ended here", text: `The server said: ${reason}.` };
  return { ...refusal, icon: "warning", action: "Join again" };
}
