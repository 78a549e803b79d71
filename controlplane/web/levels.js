// SPDX-License-Identifier: Apache-2.0
// The levels of everybody who is heard: from what each packet says about itself, else from the receiver's statistics.

/** A source that was not heard for this long is silent. */
const STALE_MS = 600;

/** Reads levels of received sounds. */
export class ReceivedLevels {
  /** @type {Map<string, {energy: number, duration: number}>} */ #energies = new Map();
  /** @type {Map<string, number>} */ #fromStatistics = new Map();
  #isAsking = false;

  /**
   * @param {{track: string, receiver: RTCRtpReceiver}[]} sounds
   * @returns {Map<string, number>} 0 … 1 by track
   */
  read(sounds) {
    const levels = new Map();
    let isIncomplete = false;
    const now = performance.timeOrigin + performance.now();
    for (const { track, receiver } of sounds) {
      const newest = receiver.getSynchronizationSources?.()[0];
      if (newest === undefined || now - newest.timestamp > STALE_MS) levels.set(track, 0);
      else if (newest.audioLevel !== undefined) levels.set(track, newest.audioLevel);
      else {
        isIncomplete = true;
        levels.set(track, this.#fromStatistics.get(track) ?? 0);
      }
    }
    if (isIncomplete && !this.#isAsking) void this.#ask(sounds);
    return levels;
  }

  /** @param {{track: string, receiver: RTCRtpReceiver}[]} sounds */
  async #ask(sounds) {
    this.#isAsking = true;
    for (const { track, receiver } of sounds) {
      const reports = await receiver.getStats().catch(() => undefined);
      reports?.forEach((report) => report.type === "inbound-rtp" && this.#take(track, report));
    }
    this.#isAsking = false;
  }

  /** @param {string} track @param {{totalAudioEnergy?: number, totalSamplesDuration?: number}} report */
  #take(track, report) {
    const now = { energy: report.totalAudioEnergy ?? 0, duration: report.totalSamplesDuration ?? 0 };
    const before = this.#energies.get(track) ?? now;
    this.#energies.set(track, now);
    const seconds = now.duration - before.duration;
    // https://www.w3.org/TR/webrtc-stats/: the mean level between two readings.
    this.#fromStatistics.set(track, seconds > 0 ? Math.sqrt((now.energy - before.energy) / seconds) : 0);
  }
}
