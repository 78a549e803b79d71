// SPDX-License-Identifier: Apache-2.0
// Opening microphone, camera and screen, and what is wrong when it does not work. It keeps nothing: see local_media.js.

import { preferences } from "./store.js";

/**
 * What keeps a device from being used.
 *
 * @typedef {"insecure" | "unsupported" | "none" | "no-camera" | "no-microphone" | "denied" | "busy" | "other"} Problem
 * @typedef {{microphone: MediaStreamTrack | null, camera: MediaStreamTrack | null, problem: Problem | null}} Opened
 * @typedef {import("./store.js").DeviceKind} DeviceKind
 */

/** @type {Record<DeviceKind, MediaDeviceKind>} */
const KINDS = { microphone: "audioinput", camera: "videoinput", speaker: "audiooutput" };

/** @returns {Problem | null} why this page can have no device at all */
export function whyNoDevices() {
  if (!window.isSecureContext && navigator.mediaDevices === undefined) return "insecure";
  return navigator.mediaDevices?.getUserMedia === undefined ? "unsupported" : null;
}

/** @param {DeviceKind} kind @returns {Promise<MediaDeviceInfo[]>} */
export async function devicesOf(kind) {
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  return all.filter((device) => device.kind === KINDS[kind]);
}

/**
 * Opens what there is of the two in one go, so that a person is asked once.
 *
 * @param {{microphone: boolean, camera: boolean}} wish
 * @returns {Promise<Opened>}
 */
export async function open(wish) {
  const nothing = { microphone: null, camera: null };
  const reason = whyNoDevices();
  if (reason !== null) return { ...nothing, problem: reason };
  const [microphones, cameras] = await Promise.all([devicesOf("microphone"), devicesOf("camera")]);
  const has = { microphone: wish.microphone && microphones.length > 0, camera: wish.camera && cameras.length > 0 };
  if (!has.microphone && !has.camera) return { ...nothing, problem: missing(wish, has) };
  try {
    return { ...(await request(has)), problem: missing(wish, has) };
  } catch (error) {
    const problem = problemOf(error);
    // One device that is in use or has gone must not take the other with it; a refusal is not asked again.
    if (problem === "denied" || !(has.microphone && has.camera)) return { ...nothing, problem };
    return openEach(problem);
  }
}

/** @param {Problem} problem of both together @returns {Promise<Opened>} */
async function openEach(problem) {
  const microphone = await request({ microphone: true, camera: false }).catch(() => ({ microphone: null }));
  const camera = await request({ microphone: false, camera: true }).catch(() => ({ camera: null }));
  return { microphone: microphone.microphone, camera: camera.camera, problem };
}

/**
 * @param {{microphone: boolean, camera: boolean}} wish
 * @param {{microphone: boolean, camera: boolean}} has
 * @returns {Problem | null}
 */
function missing(wish, has) {
  const noMicrophone = wish.microphone && !has.microphone;
  const noCamera = wish.camera && !has.camera;
  if (noMicrophone && noCamera) return "none";
  if (noMicrophone) return "no-microphone";
  return noCamera ? "no-camera" : null;
}

/**
 * @param {{microphone: boolean, camera: boolean}} wish
 * @returns {Promise<{microphone: MediaStreamTrack | null, camera: MediaStreamTrack | null}>}
 */
async function request(wish) {
  const { devices } = preferences();
  // `ideal`, not `exact`: a device that was unplugged since must not keep somebody out.
  const chosen = (/** @type {string | undefined} */ id) => (id === undefined ? {} : { deviceId: { ideal: id } });
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: wish.microphone && { ...chosen(devices.microphone), echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    video: wish.camera && { ...chosen(devices.camera), width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
  });
  const camera = stream.getVideoTracks()[0] ?? null;
  if (camera !== null) camera.contentHint = "motion";
  return { microphone: stream.getAudioTracks()[0] ?? null, camera };
}

/** @returns {boolean} whether a screen can be shared from here */
export function canShareScreen() {
  return navigator.mediaDevices?.getDisplayMedia !== undefined;
}

/**
 * Asks which screen, window or tab.
 *
 * @returns {Promise<{screen: MediaStreamTrack, sound: MediaStreamTrack | null} | null>} null: the person thought better of it
 */
export async function openScreen() {
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: true });
    const screen = stream.getVideoTracks()[0];
    if (screen === undefined) return null;
    screen.contentHint = "detail";
    return { screen, sound: stream.getAudioTracks()[0] ?? null };
  } catch (error) {
    if (problemOf(error) === "denied") return null;
    throw error;
  }
}

/** @param {unknown} error @returns {Problem} */
function problemOf(error) {
  if (!(error instanceof DOMException)) return "other";
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "none";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "other";
  }
}
