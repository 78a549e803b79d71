// SPDX-License-Identifier: Apache-2.0
// Who is in the room: `joined` and every event after it, applied in order. Pure: it knows no page and no network.

/**
 * @typedef {import("./protocol.js").Participant} Participant
 * @typedef {import("./protocol.js").Track} Track
 * @typedef {import("./protocol.js").Source} Source
 * @typedef {import("./protocol.js").Message} Message
 * @typedef {{kind: "came" | "left", participant: Participant, reason: string}} Change
 */

/** The others in a room, in the order in which they came. */
export class Roster {
  /** @type {Map<string, Participant>} */ #participants = new Map();

  /** @returns {Participant[]} */
  get participants() {
    return [...this.#participants.values()];
  }

  /** @param {string} id @returns {Participant | undefined} */
  get(id) {
    return this.#participants.get(id);
  }

  /**
   * Takes the snapshot of a `joined`. Who stays keeps the place; who came and went is returned.
   *
   * @param {Participant[]} participants
   * @returns {Change[]}
   */
  replace(participants) {
    const before = this.#participants;
    const next = new Map(participants.map((one) => [one.id, one]));
    const kept = [...before.keys()].filter((id) => next.has(id));
    const came = participants.filter((one) => !before.has(one.id));
    const gone = [...before.values()].filter((one) => !next.has(one.id));
    this.#participants = new Map([...kept, ...came.map((one) => one.id)].map((id) => [id, /** @type {Participant} */ (next.get(id))]));
    return [
      ...gone.map((participant) => ({ kind: /** @type {const} */ ("left"), participant, reason: "left" })),
      ...came.map((participant) => ({ kind: /** @type {const} */ ("came"), participant, reason: "" })),
    ];
  }

  /**
   * Applies one event. What it does not know, it ignores.
   *
   * @param {Message} event
   * @returns {Change[]} who came or went
   */
  apply(event) {
    if (event.type === "participant_joined") {
      const participant = /** @type {Participant} */ (event.participant);
      const isNew = !this.#participants.has(participant.id);
      this.#participants.set(participant.id, participant);
      return isNew ? [{ kind: "came", participant, reason: "" }] : [];
    }
    const participant = this.#participants.get(event.participant);
    if (participant === undefined) return [];
    switch (event.type) {
      case "participant_left":
        this.#participants.delete(participant.id);
        return [{ kind: "left", participant, reason: event.reason }];
      case "participant_state":
        participant.state = event.state;
        return [];
      case "track_published":
        participant.tracks = [...participant.tracks.filter((track) => track.id !== event.track.id), event.track];
        return [];
      case "track_unpublished":
        participant.tracks = participant.tracks.filter((track) => track.id !== event.track);
        return [];
      case "track_muted":
        for (const track of participant.tracks) if (track.id === event.track) track.muted = event.muted;
        return [];
      default:
        return [];
    }
  }
}

/** @param {Participant} participant @param {Source} source @returns {Track | undefined} the newest of that source */
export function trackOf(participant, source) {
  return participant.tracks.findLast((track) => track.source === source);
}
