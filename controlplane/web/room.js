// SPDX-License-Identifier: Apache-2.0
// The meeting on the page: the stage, the bar of controls, the list, what is told. What happens in it is meeting.js.

import { startDeviceChoice } from "./device_choice.js";
import { canShareScreen } from "./devices.js";
import { byId, copy, copyFrom, dress, say } from "./dom.js";
import { startKeys } from "./keys.js";
import { wakeAudio } from "./level.js";
import { detail } from "./meeting.js";
import { deviceWords } from "./messages.js";
import { rowsOf, showPeople } from "./people.js";
import { linkOf } from "./prejoin.js";
import { codeOf } from "./protocol.js";
import { Sound } from "./sound.js";
import { Stage } from "./stage.js";
import { toast } from "./toasts.js";
import { stayAwake } from "./wake.js";

/** A connection that is away for less is not worth a word. */
const BANNER_AFTER_MS = 700;

/** The room; shows one meeting at a time. */
export class Room {
  #view = byId("room", HTMLElement);
  #toasts = byId("toasts", HTMLElement);
  #people = byId("people", HTMLElement);
  #stage = new Stage(byId("stage", HTMLElement));
  #sound = new Sound(byId("sounds", HTMLElement));
  #controls = {
    mic: byId("control-mic", HTMLButtonElement),
    cam: byId("control-cam", HTMLButtonElement),
    share: byId("control-share", HTMLButtonElement),
    people: byId("control-people", HTMLButtonElement),
    link: byId("control-link", HTMLButtonElement),
    settings: byId("control-settings", HTMLButtonElement),
    leave: byId("control-leave", HTMLButtonElement),
    keys: byId("control-keys", HTMLButtonElement),
  };
  #media;
  #onLeave;
  #fill;
  /** @type {import("./meeting.js").Meeting | null} */ #meeting = null;
  /** @type {any} */ #clock = undefined;
  /** @type {any} */ #bannerTimer = undefined;
  #startedAt = 0;
  #endWake = () => {};
  #drawing = 0;

  /**
   * @param {import("./local_media.js").LocalMedia} media
   * @param {() => void} onLeave
   */
  constructor(media, onLeave) {
    this.#media = media;
    this.#onLeave = onLeave;
    this.#fill = startDeviceChoice("settings", media, () => void this.#sound.follow());
    this.#stage.onLayout = () => this.#meeting?.call.want("video", this.#stage.wanted);
    media.addEventListener("change", () => this.#draw());
    media.addEventListener("lost", (event) => this.#lost(detail(event).kind));
    const unblock = byId("unblock-sound", HTMLButtonElement);
    this.#sound.addEventListener("blocked", () => (unblock.hidden = false));
    this.#sound.addEventListener("heard", () => (unblock.hidden = true));
    unblock.addEventListener("click", () => {
      wakeAudio();
      void this.#sound.unblock();
    });
    byId("people-close", HTMLButtonElement).addEventListener("click", () => this.#togglePeople(false));
    byId("invite-copy", HTMLButtonElement).addEventListener("click", (event) => {
      void copyFrom(/** @type {HTMLButtonElement} */ (event.currentTarget), this.#link());
    });
    this.#startControls();
  }

  get isShown() {
    return !this.#view.hidden;
  }

  /** @param {import("./meeting.js").Meeting} meeting */
  show(meeting) {
    this.#meeting = meeting;
    this.#startedAt = Date.now();
    this.#view.hidden = false;
    document.title = `${meeting.room} – Millrace`;
    say(byId("bar-room", HTMLElement), meeting.room);
    say(byId("invite-link", HTMLOutputElement), this.#link().replace(/^https?:\/\//, ""));
    for (const type of ["change", "media", "speakers"]) meeting.addEventListener(type, () => this.#draw());
    meeting.addEventListener("link", () => this.#banner());
    meeting.addEventListener("notice", (event) => this.#notice(detail(event).change));
    meeting.addEventListener("problem", (event) => this.#problem(detail(event).error));
    // Times go on although nothing happens: the clock, and tiles of people who are lost.
    this.#clock = setInterval(() => this.#tick(), 1000);
    this.#tick();
    this.#endWake = stayAwake();
    void this.#fill();
    this.#banner();
    byId("room-heading", HTMLElement).focus({ preventScroll: true });
  }

  hide() {
    this.#view.hidden = true;
    this.#meeting = null;
    this.#endWake();
    this.#endWake = () => {};
    clearInterval(this.#clock);
    clearTimeout(this.#bannerTimer);
    this.#bannerTimer = undefined;
    this.#stage.clear();
    this.#sound.play([]);
    this.#toasts.replaceChildren();
    for (const dialog of document.querySelectorAll("dialog[open]")) /** @type {HTMLDialogElement} */ (dialog).close();
    for (const id of ["banner", "people", "unblock-sound"]) byId(id, HTMLElement).hidden = true;
    this.#controls.people.setAttribute("aria-expanded", "false");
  }

  #startControls() {
    const { mic, cam, share, people, link, settings, leave, keys } = this.#controls;
    dress(people, { icon: "people", label: "Participants", key: "p" });
    dress(link, { icon: "link", label: "Copy meeting link" });
    dress(settings, { icon: "settings", label: "Settings" });
    dress(leave, { icon: "leave", label: "Leave the meeting" });
    dress(keys, { icon: "keyboard", label: "Keyboard shortcuts", key: "?" });
    share.hidden = !canShareScreen();
    const dialog = (/** @type {string} */ id) => byId(id, HTMLDialogElement).showModal();
    const toggleMic = () => void this.#media.setMic(!this.#isMicOn).then(() => this.#complain("microphone"));
    const toggleCam = () => void this.#media.setCam(this.#media.camera === null).then(() => this.#complain("camera"));
    mic.addEventListener("click", toggleMic);
    cam.addEventListener("click", toggleCam);
    share.addEventListener("click", () => void this.#share());
    people.addEventListener("click", () => this.#togglePeople());
    link.addEventListener("click", () => void this.#copyLink());
    settings.addEventListener("click", () => dialog("settings"));
    keys.addEventListener("click", () => dialog("keys"));
    leave.addEventListener("click", () => this.#onLeave());
    const shortcuts = [
      { key: "m", does: "Mute or unmute", run: toggleMic },
      { key: "v", does: "Turn the camera on or off", run: toggleCam },
      { key: "s", does: "Share your screen, or stop", run: () => void this.#share() },
      { key: "p", does: "Show or hide participants", run: () => this.#togglePeople() },
      { key: "?", does: "Show these shortcuts", run: () => dialog("keys") },
      { key: "Esc", does: "Close what is open", run: () => this.#togglePeople(false) },
    ];
    startKeys(shortcuts, () => this.isShown);
  }

  get #isMicOn() {
    return this.#media.microphone !== null && this.#media.isMicOn;
  }

  // ---- drawing ----

  /** Draws once for all that changes together. */
  #draw() {
    if (this.#drawing !== 0 || this.#meeting === null) return;
    this.#drawing = setTimeout(() => {
      this.#drawing = 0;
      if (this.#meeting !== null) this.#drawNow(this.#meeting);
    }, 0);
  }

  /** @param {import("./meeting.js").Meeting} meeting */
  #drawNow(meeting) {
    const media = this.#media;
    this.#stage.show(meeting, media);
    meeting.call.want("video", this.#stage.wanted);
    this.#sound.play(meeting.call.soundTracks);
    showPeople(byId("people-list", HTMLElement), byId("people-count", HTMLElement), rowsOf(meeting, media));
    byId("invite", HTMLElement).hidden = meeting.roster.participants.length > 0 || media.screen !== null;
    const { mic, cam, share } = this.#controls;
    const [isMicOn, isCamOn, isSharing] = [this.#isMicOn, media.camera !== null, media.screen !== null];
    dress(mic, { icon: isMicOn ? "mic" : "mic-off", label: isMicOn ? "Mute" : "Unmute", key: "m" });
    dress(cam, { icon: isCamOn ? "cam" : "cam-off", label: isCamOn ? "Turn camera off" : "Turn camera on", key: "v" });
    dress(share, { icon: isSharing ? "screen-off" : "screen", label: isSharing ? "Stop sharing" : "Share your screen", key: "s" });
    mic.classList.toggle("off", !isMicOn);
    cam.classList.toggle("off", !isCamOn);
    share.classList.toggle("active", isSharing);
    mic.setAttribute("aria-pressed", String(isMicOn));
    cam.setAttribute("aria-pressed", String(isCamOn));
    share.setAttribute("aria-pressed", String(isSharing));
  }

  #tick() {
    const seconds = Math.floor((Date.now() - this.#startedAt) / 1000);
    const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
    say(byId("bar-time", HTMLElement), hours > 0 ? `${hours}:${rest}` : rest);
    this.#draw();
  }

  /** Says that the connection is away, after a moment: most are back before anybody has read it. */
  #banner() {
    const words = this.#bannerWords();
    const banner = byId("banner", HTMLElement);
    if (words === "") {
      clearTimeout(this.#bannerTimer);
      this.#bannerTimer = undefined;
      banner.hidden = true;
      return;
    }
    say(byId("banner-text", HTMLElement), words);
    this.#bannerTimer ??= setTimeout(() => {
      banner.hidden = this.#bannerWords() === "";
    }, BANNER_AFTER_MS);
  }

  #bannerWords() {
    const meeting = this.#meeting;
    if (meeting === null) return "";
    if (meeting.connection.state === "reconnecting") return meeting.isClosing ? "The server restarts. Reconnecting …" : "Reconnecting …";
    if (meeting.call.link === "interrupted") return "Reconnecting …";
    return "";
  }

  // ---- what happens ----

  /** @param {import("./roster.js").Change} change */
  #notice({ kind, participant, reason }) {
    const left = reason === "lost" ? "lost the connection" : reason === "removed" ? "was removed" : "left";
    toast(this.#toasts, kind === "came" ? `${participant.name} joined` : `${participant.name} ${left}`);
  }

  /** @param {unknown} error */
  #problem(error) {
    const code = codeOf(error);
    const text = code === "no_media"
      ? "No sound or picture gets through. A firewall may block UDP to the server; trying again."
      : `Something did not work: ${error instanceof Error ? error.message : error}`;
    toast(this.#toasts, text, "bad");
  }

  /** @param {string} kind of a device that went by itself */
  #lost(kind) {
    if (!this.isShown || kind === "screenSound") return;
    const text = kind === "screen" ? "You stopped sharing your screen" : `Your ${kind} is gone: it was unplugged or taken away.`;
    toast(this.#toasts, text, kind === "screen" ? "" : "bad");
  }

  /** @param {"microphone" | "camera"} kind that should be on */
  #complain(kind) {
    const isOff = kind === "microphone" ? this.#media.isMicOn && this.#media.microphone === null : this.#media.isCamOn && this.#media.camera === null;
    if (!isOff || this.#media.problem === null) return;
    const { title, text } = deviceWords(this.#media.problem);
    toast(this.#toasts, `${title}. ${text}`, "bad");
  }

  async #share() {
    if (this.#media.screen !== null) return this.#media.stopSharing();
    if (!canShareScreen()) return toast(this.#toasts, "This browser cannot share a screen.", "bad");
    try {
      if (await this.#media.share()) toast(this.#toasts, "You are sharing your screen");
    } catch (error) {
      this.#problem(error);
    }
  }

  async #copyLink() {
    const isCopied = await copy(this.#link());
    toast(this.#toasts, isCopied ? "Link copied" : `The link: ${this.#link()}`);
  }

  /** @param {boolean} [isOpen] the other of what it is */
  #togglePeople(isOpen = this.#people.hidden === true) {
    const hadFocus = this.#people.contains(document.activeElement);
    this.#people.hidden = !isOpen;
    this.#controls.people.setAttribute("aria-expanded", String(isOpen));
    this.#controls.people.classList.toggle("active", isOpen);
    this.#view.classList.toggle("with-people", isOpen);
    if (isOpen) byId("people-close", HTMLButtonElement).focus({ preventScroll: true });
    else if (hadFocus) this.#controls.people.focus();
  }

  #link() {
    return linkOf(this.#meeting?.room ?? "");
  }
}
