// SPDX-License-Identifier: Apache-2.0
// One meeting of one person: connection, media and roster together. It draws nothing; room.js shows it.

import { Call } from "./call.js";
import { ReceivedLevels } from "./levels.js";
import { LevelMeter, Speakers } from "./level.js";
import { Connection, socketUrl } from "./protocol.js";
import { Roster, trackOf } from "./roster.js";
import { keepMeeting } from "./store.js";

const LEVELS_EVERY_MS = 150;

/**
 * Events: `change` (who is there and what they send), `media` (what can be shown), `notice` (`{change}` of the roster),
 * `speakers`, `link`, `problem` (`{error}`), `ended` (`{reason}`).
 */
export class Meeting extends EventTarget {
  roster = new Roster();
  /** @type {Set<string>} */ speakers = new Set();
  self = "";
  name = "";
  /** Whether the server has said that it stops. */
  isClosing = false;
  #media;
  #speakers = new Speakers();
  #levels = new ReceivedLevels();
  /** @type {LevelMeter | null} */ #meter = null;
  /** @type {MediaStreamTrack | null} */ #metered = null;
  /** @type {any} */ #timer = undefined;

  /**
   * @param {{room: string, name: string, token?: string, resume?: string}} wish
   * @param {import("./local_media.js").LocalMedia} media
   */
  constructor(wish, media) {
    super();
    this.wish = wish;
    this.room = wish.room;
    this.name = wish.name;
    this.#media = media;
    this.connection = new Connection(socketUrl(location), undefined, isServerThere);
    this.call = new Call(this.connection);
  }

  /** Joins; rejects with what the server said. */
  async join() {
    this.connection.addEventListener("joined", (event) => this.#entered(detail(event)));
    this.connection.addEventListener("event", (event) => this.#take(detail(event)));
    this.connection.addEventListener("state", () => this.#tell("link"));
    this.connection.addEventListener("ended", (event) => this.#ended(detail(event).reason));
    this.call.addEventListener("slots", () => this.#tell("media"));
    this.call.addEventListener("link", () => this.#tell("link"));
    this.call.addEventListener("problem", (event) => this.#tell("problem", detail(event)));
    this.#media.addEventListener("change", this.#send);
    addEventListener("online", this.#hurry);
    addEventListener("offline", this.#hurry);
    this.#send();
    try {
      await this.connection.join(this.wish);
    } catch (error) {
      this.#close();
      throw error;
    }
    this.#timer = setInterval(() => this.#listen(), LEVELS_EVERY_MS);
  }

  async leave() {
    keepMeeting(null);
    const gone = this.connection.leave();
    this.#close();
    await gone;
  }

  /** @param {import("./protocol.js").Joined} joined */
  #entered(joined) {
    this.self = joined.self;
    this.isClosing = false;
    keepMeeting({ room: joined.room, name: this.name, resume: joined.resume });
    const isFirst = this.roster.participants.length === 0 && !joined.resumed;
    for (const change of this.roster.replace(joined.participants)) {
      if (!isFirst) this.#tell("notice", { change });
    }
    this.call.entered(joined);
    this.#changed();
  }

  /** @param {import("./protocol.js").Message} event */
  #take(event) {
    if (event.type === "transport" && event.state === "failed") return this.call.restart();
    if (event.type === "transport" && event.state === "lost" && this.call.link !== "connected") return this.call.restart();
    if (event.type === "closing") {
      this.isClosing = true;
      return this.#tell("link");
    }
    if (event.type === "track_unpublished") this.call.forget(event.track);
    for (const change of this.roster.apply(event)) this.#tell("notice", { change });
    this.#changed();
  }

  #changed() {
    const sounds = this.roster.participants.flatMap((one) => one.tracks.filter((track) => track.kind === "audio"));
    // Who is muted comes last: when slots are short, whoever may speak is heard.
    sounds.sort((one, other) => Number(one.muted) - Number(other.muted));
    this.call.want("audio", sounds.map((track) => ({ track: track.id })));
    this.#tell("change");
  }

  /** Brings what is sent in line with what is open here. */
  #send = () => {
    const media = this.#media;
    this.call.send("microphone", media.microphone, !media.isMicOn || media.microphone === null);
    this.call.send("camera", media.camera, media.camera === null);
    this.#sendOrStop("screen", media.screen);
    this.#sendOrStop("screen-audio", media.screenSound);
    this.#tell("media");
  };

  /** @param {"screen" | "screen-audio"} source @param {MediaStreamTrack | null} track */
  #sendOrStop(source, track) {
    if (track === null) this.call.stop(source);
    else this.call.send(source, track, false);
  }

  #hurry = () => this.connection.hurry();

  /** Reads every level and says who speaks. */
  #listen() {
    const levels = new Map();
    const heard = this.#levels.read(this.call.sounds);
    for (const one of this.roster.participants) {
      const track = trackOf(one, "microphone");
      levels.set(one.id, track === undefined || track.muted ? 0 : (heard.get(track.id) ?? 0));
    }
    levels.set(this.self, this.#ownLevel());
    const speakers = this.#speakers.take(levels, performance.now());
    if (speakers.size === this.speakers.size && [...speakers].every((who) => this.speakers.has(who))) return;
    this.speakers = speakers;
    this.#tell("speakers");
  }

  #ownLevel() {
    const track = this.#media.microphone;
    if (track !== this.#metered) {
      this.#meter?.stop();
      this.#meter = track === null ? null : new LevelMeter(track);
      this.#metered = track;
    }
    return this.#media.isMicOn ? (this.#meter?.read() ?? 0) : 0;
  }

  /** @param {string} reason */
  #ended(reason) {
    keepMeeting(null);
    this.#close();
    this.#tell("ended", { reason });
  }

  #close() {
    clearInterval(this.#timer);
    this.#meter?.stop();
    this.#meter = null;
    this.#media.removeEventListener("change", this.#send);
    removeEventListener("online", this.#hurry);
    removeEventListener("offline", this.#hurry);
    this.call.close();
  }

  /** @param {string} type @param {unknown} [about] */
  #tell(type, about) {
    this.dispatchEvent(new CustomEvent(type, { detail: about }));
  }
}

/** @param {Event} event @returns {any} */
export function detail(event) {
  return /** @type {CustomEvent} */ (event).detail;
}

/** @returns {Promise<boolean>} whether the server answers */
async function isServerThere() {
  try {
    return (await fetch("/healthz", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}
