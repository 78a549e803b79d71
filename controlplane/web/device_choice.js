// SPDX-License-Identifier: Apache-2.0
// The three selects for microphone, camera and speaker, on the prejoin page and in the settings.

import { byId } from "./dom.js";
import { devicesOf } from "./devices.js";
import { prefer, preferences } from "./store.js";

const KINDS = /** @type {const} */ (["microphone", "camera", "speaker"]);

/**
 * @param {"prejoin" | "settings"} place
 * @param {import("./local_media.js").LocalMedia} media
 * @param {() => void} onSpeaker
 * @returns {() => Promise<void>} fills the selects again
 */
export function startDeviceChoice(place, media, onSpeaker) {
  const selects = KINDS.map((kind) => /** @type {const} */ ([kind, byId(`${place}-${kind}`, HTMLSelectElement)]));
  for (const [kind, select] of selects) {
    select.addEventListener("change", () => {
      if (kind !== "speaker") return void media.choose(kind, select.value);
      prefer({ devices: { ...preferences().devices, speaker: select.value } });
      onSpeaker();
    });
  }
  const fill = async () => {
    for (const [kind, select] of selects) fillOne(kind, select, await devicesOf(kind), media);
  };
  navigator.mediaDevices?.addEventListener?.("devicechange", () => void fill());
  media.addEventListener("change", () => void fill());
  return fill;
}

/**
 * @param {import("./store.js").DeviceKind} kind
 * @param {HTMLSelectElement} select
 * @param {MediaDeviceInfo[]} devices
 * @param {import("./local_media.js").LocalMedia} media
 */
function fillOne(kind, select, devices, media) {
  const named = devices.filter((device) => device.deviceId !== "");
  const used = kind === "speaker" ? preferences().devices.speaker : (media[kind]?.getSettings().deviceId ?? preferences().devices[kind]);
  const mark = JSON.stringify([named.map((device) => [device.deviceId, device.label]), used]);
  if (select.dataset.mark === mark) return;
  select.dataset.mark = mark;
  const options = named.map((device, at) => new Option(device.label || `${title(kind)} ${at + 1}`, device.deviceId));
  select.replaceChildren(...(options.length > 0 ? options : [new Option(none(kind, devices.length), "")]));
  select.disabled = options.length === 0;
  if (named.some((device) => device.deviceId === used)) select.value = used ?? "";
}

/** @param {string} kind */
function title(kind) {
  return kind.slice(0, 1).toUpperCase() + kind.slice(1);
}

/** @param {string} kind @param {number} count devices that have no name until they are allowed */
function none(kind, count) {
  if (kind === "speaker") return "System default";
  return count > 0 ? "Not allowed yet" : `No ${kind} found`;
}
