// SPDX-License-Identifier: Apache-2.0
// The client of millrace.v1 (docs/PROTOCOL.md): one WebSocket, requests with replies, events, and resuming by itself.
// It knows no page and no media: whoever uses it is told of `state`, `event`, `joined` and `ended`.

/** The name of this version. */
export const SUBPROTOCOL = "millrace.v1";

/** How long opening a socket and joining may take. During an outage a new try is cheaper than an old one. */
const OPEN_MS = 3000;
/** How long a reply is waited for. */
const REPLY_MS = 10_000;
/** Silence after which the server is asked whether it is there. */
const QUIET_MS = 4000;
/** How long it may take to say so. */
const PONG_MS = 2500;
/** A timer that comes later than this tells of a busy page, not of the server. */
const LATE_MS = 500;
/** Waits between tries to resume; then a second each for as long as a resume token lives. */
const WAITS_MS = [0, 200, 400, 700];
const SHORT_WAIT_MS = 1000;
const LONG_WAIT_MS = 3000;
const SHORT_WAITS = 64;
/** Close codes after which there is nothing to resume, with what they mean. */
const FINAL = new Map([
  [1000, "left"],
  [1003, "broken"],
  [1009, "broken"],
  [4000, "replaced"],
  [4001, "broken"],
  [4003, "removed"],
  [4008, "broken"],
]);
/** Errors that another try may not see again. */
const PASSING = new Set(["server_full", "rate_limited", "unreachable", "connection_lost", "timeout"]);

/**
 * @typedef {{id: string, kind: "audio" | "video", source: Source, muted: boolean}} Track
 * @typedef {"camera" | "microphone" | "screen" | "screen-audio"} Source
 * @typedef {"live" | "joining" | "lost"} ParticipantState
 * @typedef {{id: string, name: string, state: ParticipantState, tracks: Track[]}} Participant
 * @typedef {{message_bytes: number, slots_per_kind: number, tracks: number, name_bytes: number}} Limits
 * @typedef {object} Joined
 * @property {"joined"} type
 * @property {string} room
 * @property {string} self
 * @property {string} resume
 * @property {number} resume_ttl_s
 * @property {boolean} resumed
 * @property {"kept" | "none"} transport
 * @property {Participant[]} participants
 * @property {Limits} limits
 * @property {{mid: string, track: string | null}[]} [slots]
 * @property {{mid: string, track: string}[]} [tracks]
 * @typedef {{type: string, [member: string]: any}} Message
 * @typedef {{room: string, name: string, token?: string, resume?: string}} Wish
 * @typedef {"connecting" | "joined" | "reconnecting" | "ended"} State
 * @typedef {{readyState: number, protocol: string, send(text: string): void, close(code?: number): void,
 *   onopen: any, onmessage: any, onclose: any, onerror: any}} Socket
 */

/** Why a request was refused (the server's code), or did not get that far: `connection_lost`, `timeout`, `unreachable`. */
export class RequestError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {string} [field]
   */
  constructor(code, message, field) {
    super(message);
    this.name = "RequestError";
    this.code = code;
    this.field = field;
  }
}

/** @param {Location} place @returns {string} the URL of the WebSocket beside a page */
export function socketUrl(place) {
  return `${place.protocol === "https:" ? "wss:" : "ws:"}//${place.host}/api/v1/ws`;
}

/**
 * One participant's connection to the server, over as many sockets as it takes.
 *
 * Events: `state` ({@link State}), `joined` ({@link Joined}; the first time and after each resume), `event`
 * ({@link Message}), `ended` (`{reason}`: `left`, `replaced`, `removed`, `broken`, or an error's code).
 */
export class Connection extends EventTarget {
  /** @type {Socket | null} */ #socket = null;
  /** @type {Wish | null} */ #wish = null;
  /** @type {Map<number, {resolve: (message: any) => void, reject: (error: Error) => void, timer: any}>} */
  #pending = new Map();
  /** @type {State} */ #state = "connecting";
  #nextId = 1;
  #resume = "";
  #heardAt = 0;
  /** @type {any} */ #watch = undefined;
  /** @type {(() => void) | null} */ #wake = null;

  /**
   * @param {string} url
   * @param {(url: string, protocol: string) => Socket} [open] for tests
   * @param {() => Promise<boolean>} [isThere] whether the server answers at all: browsers make a page wait for seconds whose
   *   WebSockets have failed several times, so a lasting outage is not probed with them
   */
  constructor(url, open = (where, protocol) => new WebSocket(where, protocol), isThere = async () => true) {
    super();
    this.url = url;
    this.open = open;
    this.isThere = isThere;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** The token with which another page of this person can go on. */
  get resumeToken() {
    return this.#resume;
  }

  /**
   * Joins; with `resume` tries that first and joins anew when it is unknown.
   *
   * @param {Wish} wish
   * @returns {Promise<Joined>}
   */
  async join(wish) {
    this.#wish = wish;
    this.#resume = wish.resume ?? "";
    this.#become("connecting");
    try {
      return this.#entered(await this.#enter());
    } catch (error) {
      this.#end(codeOf(error), false);
      throw error;
    }
  }

  /**
   * Sends one request.
   *
   * @param {Message} message
   * @returns {Promise<any>} the reply
   */
  request(message) {
    if (this.#state !== "joined" || this.#socket === null) {
      return Promise.reject(new RequestError("connection_lost", "The server is not connected."));
    }
    return this.#send(this.#socket, message, REPLY_MS);
  }

  /** Leaves for good. */
  async leave() {
    if (this.#state === "joined") await this.request({ type: "leave" }).catch(() => {});
    this.#end("left", true);
  }

  /** The network may be back, or gone: looks at once instead of at the next turn. */
  hurry() {
    if (this.#wake !== null) this.#wake();
    else if (this.#state === "joined") void this.#probe();
  }

  // ---- joining and resuming ----

  /** Opens a socket and joins on it. @returns {Promise<Joined>} */
  async #enter() {
    const wish = this.#wish;
    if (wish === null) throw new RequestError("not_joined", "There is nothing to join.");
    if (this.#resume !== "") {
      try {
        return await this.#attempt({ type: "join", resume: this.#resume });
      } catch (error) {
        if (codeOf(error) !== "resume_unknown") throw error;
        this.#resume = "";
      }
    }
    const token = wish.token === undefined || wish.token === "" ? {} : { token: wish.token };
    return this.#attempt({ type: "join", room: wish.room, name: wish.name, ...token });
  }

  /** @param {Message} first @returns {Promise<Joined>} */
  async #attempt(first) {
    this.#drop();
    const socket = this.open(this.url, SUBPROTOCOL);
    this.#socket = socket;
    await new Promise((resolve, reject) => {
      const fail = () => reject(new RequestError("unreachable", "The server cannot be reached."));
      const timer = setTimeout(fail, OPEN_MS);
      socket.onopen = () => (clearTimeout(timer), resolve(undefined));
      socket.onerror = socket.onclose = () => (clearTimeout(timer), fail());
    });
    socket.onmessage = (/** @type {{data: unknown}} */ event) => this.#take(socket, event.data);
    socket.onclose = (/** @type {{code: number}} */ event) => this.#closed(socket, event.code);
    socket.onerror = null;
    return this.#send(socket, first, OPEN_MS);
  }

  /** @param {Joined} joined @returns {Joined} */
  #entered(joined) {
    this.#resume = joined.resume;
    this.#heardAt = Date.now();
    clearInterval(this.#watch);
    this.#watch = setInterval(() => {
      if (Date.now() - this.#heardAt >= QUIET_MS) void this.#probe();
    }, QUIET_MS / 2);
    this.#become("joined");
    this.#tell("joined", joined);
    return joined;
  }

  /** Tries again until somebody is there or there is no point in it. */
  async #reconnect() {
    if (this.#state !== "joined") return;
    clearInterval(this.#watch);
    this.#become("reconnecting");
    for (let turn = 0; this.#is("reconnecting"); turn += 1) {
      await this.#pause(WAITS_MS[turn] ?? (turn < SHORT_WAITS ? SHORT_WAIT_MS : LONG_WAIT_MS));
      if (!this.#is("reconnecting")) return;
      if (turn > 0 && !(await this.isThere())) continue;
      try {
        const joined = await this.#enter();
        // Whoever left meanwhile does not come back.
        return void (this.#is("reconnecting") ? this.#entered(joined) : this.#drop());
      } catch (error) {
        if (!PASSING.has(codeOf(error))) return void this.#end(codeOf(error), true);
      }
    }
  }

  /** Waits, or until {@link hurry}. @param {number} ms @returns {Promise<void>} */
  #pause(ms) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
      const timer = setTimeout(end, ms * (0.8 + 0.4 * Math.random()));
      this.#wake = end;
    });
  }

  /** Asks whether the server is there; a socket that does not answer is as good as closed. */
  async #probe() {
    const socket = this.#socket;
    if (socket === null || this.#state !== "joined") return;
    const [before, askedAt] = [this.#heardAt, Date.now()];
    try {
      await this.#send(socket, { type: "ping" }, PONG_MS);
    } catch {
      // A page that was itself held up may have the pong in its queue: the next look tells.
      if (Date.now() - askedAt > PONG_MS + LATE_MS) return;
      // Another message is as good as the pong.
      if (this.#socket === socket && this.#heardAt === before) this.#closed(socket, 1006);
    }
  }

  // ---- one socket ----

  /**
   * @param {Socket} socket
   * @param {Message} message
   * @param {number} limitMs
   * @returns {Promise<any>}
   */
  #send(socket, message, limitMs) {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new RequestError("timeout", `The server did not answer (${message.type}).`));
      }, limitMs);
      this.#pending.set(id, { resolve, reject, timer });
      const { type, ...rest } = message;
      try {
        socket.send(JSON.stringify({ type, id, ...rest }));
      } catch {
        this.#settle(id)?.reject(new RequestError("connection_lost", "The connection to the server is gone."));
      }
    });
  }

  /** @param {number} id */
  #settle(id) {
    const waiting = this.#pending.get(id);
    this.#pending.delete(id);
    clearTimeout(waiting?.timer);
    return waiting;
  }

  /** @param {Socket} socket @param {unknown} data */
  #take(socket, data) {
    if (socket !== this.#socket || typeof data !== "string") return;
    this.#heardAt = Date.now();
    /** @type {Message} */
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof message?.type !== "string") return;
    if (message.id === undefined) return this.#tell("event", message);
    const waiting = this.#settle(message.id);
    if (message.type !== "error") return waiting?.resolve(message);
    waiting?.reject(new RequestError(String(message.code), String(message.message), message.field));
  }

  /** @param {Socket} socket @param {number} code */
  #closed(socket, code) {
    if (socket !== this.#socket) return;
    this.#drop();
    const reason = FINAL.get(code);
    // A first join has its own way to fail: the request that was waiting is rejected.
    if (this.#state !== "joined") return;
    if (reason !== undefined) this.#end(reason, true);
    else void this.#reconnect();
  }

  /** Lets go of the socket; whoever waits for a reply is told. */
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
      try {
        socket.close();
      } catch {
        // It was never open.
      }
    }
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id)?.reject(new RequestError("connection_lost", "The connection to the server is gone."));
    }
  }

  /** @param {string} reason @param {boolean} isTold */
  #end(reason, isTold) {
    if (this.#state === "ended") return;
    clearInterval(this.#watch);
    this.#become("ended");
    this.#wake?.();
    this.#drop();
    if (isTold) this.#tell("ended", { reason });
  }

  /** @param {State} state @returns {boolean} asked anew after each wait */
  #is(state) {
    return this.#state === state;
  }

  /** @param {State} state */
  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#tell("state", state);
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** @param {unknown} error @returns {string} */
export function codeOf(error) {
  return error instanceof RequestError ? error.code : "internal";
}
