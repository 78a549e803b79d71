// SPDX-License-Identifier: Apache-2.0
// How loud things are, and who is speaking.

/** Louder than this (0 … 1, root of the mean square) is speech. */
const SPEECH = 0.01;
/** So many readings in a row begin to speak, and so long after the last one somebody still does. */
const BEGIN_READINGS = 2;
const HOLD_MS = 900;

/** @type {AudioContext | null} */
let context = null;

/** Follows the level of one track here. A browser that gives no audio context reads silence. */
export class LevelMeter {
  /** @type {AnalyserNode | null} */ #analyser = null;
  /** @type {MediaStreamAudioSourceNode | null} */ #source = null;
  /** @type {Float32Array<ArrayBuffer>} */ #samples = new Float32Array(512);

  /** @param {MediaStreamTrack} track */
  constructor(track) {
    try {
      context ??= new AudioContext();
      void context.resume().catch(() => {});
      this.#analyser = new AnalyserNode(context, { fftSize: 512 });
      this.#source = context.createMediaStreamSource(new MediaStream([track]));
      this.#source.connect(this.#analyser);
    } catch {
      this.#analyser = null;
    }
  }

  /** @returns {number} 0 … 1 */
  read() {
    if (this.#analyser === null) return 0;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    return Math.sqrt(sum / this.#samples.length);
  }

  stop() {
    this.#source?.disconnect();
    this.#analyser = null;
  }
}

/** A gesture of the person lets a suspended audio context begin. */
export function wakeAudio() {
  void context?.resume().catch(() => {});
}

/** @param {number} level 0 … 1 as measured @returns {number} 0 … 1 as heard: -60 dB is nothing, -10 dB is all */
export function loudness(level) {
  return level <= 0 ? 0 : Math.min(1, Math.max(0, (20 * Math.log10(level) + 60) / 50));
}

/** Who speaks, from readings of levels. Pure but for the time that it is given. */
export class Speakers {
  /** @type {Map<string, {readings: number, until: number}>} */ #heard = new Map();

  /**
   * @param {Map<string, number>} levels by participant
   * @param {number} now in ms
   * @returns {Set<string>} who is speaking
   */
  take(levels, now) {
    for (const [who, level] of levels) {
      const heard = this.#heard.get(who) ?? { readings: 0, until: 0 };
      heard.readings = level > SPEECH ? heard.readings + 1 : 0;
      if (heard.readings >= BEGIN_READINGS) heard.until = now + HOLD_MS;
      this.#heard.set(who, heard);
    }
    for (const who of this.#heard.keys()) if (!levels.has(who)) this.#heard.delete(who);
    return new Set([...this.#heard].filter(([, heard]) => heard.until > now).map(([who]) => who));
  }
}
