// SPDX-License-Identifier: Apache-2.0
// What is remembered: a person's name and devices in this browser, the meeting under way in this tab. Storage that is
// full, forbidden or broken is as good as empty.

/**
 * @typedef {"microphone" | "camera" | "speaker"} DeviceKind
 * @typedef {{name: string, theme: string, isMicOn: boolean, isCamOn: boolean, devices: Partial<Record<DeviceKind, string>>}} Preferences
 * @typedef {{room: string, name: string, resume: string}} Meeting
 */

const PREFERENCES = "millrace.preferences";
const MEETING = "millrace.meeting";

/** @type {Preferences} */
const DEFAULTS = { name: "", theme: "auto", isMicOn: true, isCamOn: true, devices: {} };

/** @returns {Preferences} */
export function preferences() {
  const found = read(() => localStorage, PREFERENCES);
  return { ...DEFAULTS, ...(found ?? {}), devices: { ...(found?.devices ?? {}) } };
}

/** @param {Partial<Preferences>} changes */
export function prefer(changes) {
  write(() => localStorage, PREFERENCES, { ...preferences(), ...changes });
}

/** @returns {Meeting | null} the meeting that a reload of this tab goes on with */
export function meetingUnderWay() {
  const found = read(() => sessionStorage, MEETING);
  return typeof found?.room === "string" && typeof found.resume === "string" ? found : null;
}

/** @param {Meeting | null} meeting */
export function keepMeeting(meeting) {
  write(() => sessionStorage, MEETING, meeting);
}

/** @param {() => Storage} storage @param {string} key @returns {any} */
function read(storage, key) {
  try {
    return JSON.parse(storage().getItem(key) ?? "null");
  } catch {
    return null;
  }
}

/** @param {() => Storage} storage @param {string} key @param {unknown} value */
function write(storage, key, value) {
  try {
    if (value === null) storage().removeItem(key);
    else storage().setItem(key, JSON.stringify(value));
  } catch {
    // Not being remembered is no reason to stop.
  }
}
