// SPDX-License-Identifier: Apache-2.0
// A WHIP (RFC 9725) and WHEP client for browsers. Used by the plain page and by the labs; it touches no DOM and
// prints nothing.

/** How long an offer waits for its answer. */
const ANSWER_TIMEOUT_MS = 10_000;
/** How long `connected` waits for ICE and DTLS. */
const CONNECT_TIMEOUT_MS = 20_000;

/**
 * Why a session could not be made.
 *
 * `kind` is one of `insecure-context`, `unreachable`, `timeout`, `refused`, `connection`, or, when the server said
 * why, the last part of its problem type: `not-published`, `unauthorized`, `forbidden`, `name-taken`, `bad-parameter`, …
 */
export class SessionError extends Error {
  /**
   * @param {string} kind
   * @param {string} message
   * @param {{status?: number, field?: string, retryAfterMs?: number, cause?: unknown}} [details]
   */
  constructor(kind, message, details = {}) {
    super(message, { cause: details.cause });
    this.name = "SessionError";
    this.kind = kind;
    this.status = details.status;
    this.field = details.field;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/**
 * A session under way.
 *
 * @typedef {object} Session
 * @property {RTCPeerConnection} pc
 * @property {string} resource URL of the session; DELETE ends it.
 * @property {string} participant the id in URLs: one's own when publishing, the watched one's when watching.
 * @property {MediaStream} stream what is sent or received.
 * @property {number} postStartedAt `performance.now()` when the offer was sent.
 * @property {number} answerAt `performance.now()` when the answer had come.
 * @property {Promise<void>} connected settles once media can flow; rejects with a SessionError.
 * @property {() => Promise<void>} close ends the session here and at the server.
 */

/**
 * Publishes a stream.
 *
 * @param {string} room
 * @param {string} name shown to others; its slug becomes the participant's id. Empty: the server finds one.
 * @param {MediaStream} stream
 * @param {{simulcast?: boolean, token?: string, server?: string, signal?: AbortSignal}} [options]
 *   `simulcast` sends video as three encodings (q, h, f); `server` is the origin of another server.
 * @returns {Promise<Session>}
 */
export async function publish(room, name, stream, options = {}) {
  const pc = peerConnection();
  for (const track of stream.getTracks()) {
    const wantsRids = track.kind === "video" && options.simulcast === true;
    pc.addTransceiver(track, { direction: "sendonly", streams: [stream], ...(wantsRids && { sendEncodings: rids() }) });
  }
  const query = name === "" ? "" : `?name=${encodeURIComponent(name)}`;
  return negotiate(pc, `/whip/${encodeURIComponent(room)}${query}`, stream, options);
}

/**
 * Watches a participant, or the room's latest publisher when `participant` is empty.
 *
 * @param {string} room
 * @param {string} participant
 * @param {{token?: string, server?: string, signal?: AbortSignal}} [options]
 * @returns {Promise<Session>}
 */
export async function watch(room, participant, options = {}) {
  const pc = peerConnection();
  const stream = new MediaStream();
  pc.addEventListener("track", (event) => stream.addTrack(event.track));
  pc.addTransceiver("audio", { direction: "recvonly" });
  pc.addTransceiver("video", { direction: "recvonly" });
  const tail = participant === "" ? "" : `/${encodeURIComponent(participant)}`;
  return negotiate(pc, `/whep/${encodeURIComponent(room)}${tail}`, stream, options);
}

/**
 * Who publishes where.
 *
 * @returns {Promise<{room: string, viewers: number,
 *   publishers: {participant: string, name: string, audio: number, video: number, live: boolean}[]}[]>}
 */
export async function rooms() {
  const response = await request("/api/v1/rooms", { headers: { accept: "application/json" } });
  if (!response.ok) throw await refusal(response);
  return (await response.json()).rooms;
}

/** @returns {RTCPeerConnection} */
function peerConnection() {
  if (typeof RTCPeerConnection === "undefined") {
    throw new SessionError("unsupported", "This browser has no WebRTC, or it is switched off.");
  }
  // The server is ICE-lite with public candidates: no STUN or TURN server is needed.
  return new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: [] });
}

/** Three simulcast encodings, the smallest first. */
function rids() {
  return [
    { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
    { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
    { rid: "f", maxBitrate: 2_000_000 },
  ];
}

/**
 * Offers, posts, takes the answer.
 *
 * @param {RTCPeerConnection} pc
 * @param {string} path
 * @param {MediaStream} stream
 * @param {{token?: string, server?: string, signal?: AbortSignal}} options
 * @returns {Promise<Session>}
 */
async function negotiate(pc, path, stream, options) {
  let resource = "";
  try {
    await pc.setLocalDescription();
    // Candidates are not waited for: an ICE-lite server never uses them, it answers whoever checks.
    const postStartedAt = performance.now();
    const response = await request(new URL(path, options.server ?? location.origin), {
      method: "POST",
      headers: { "content-type": "application/sdp", ...authorization(options.token) },
      body: pc.localDescription?.sdp ?? "",
      signal: options.signal,
    });
    if (response.status !== 201) throw await refusal(response);
    resource = new URL(response.headers.get("location") ?? "", response.url).href;
    const answer = await response.text();
    const answerAt = performance.now();
    const connected = untilConnected(pc);
    // A caller that does not look at it must not see an unhandled rejection.
    connected.catch(() => {});
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    const participant = response.headers.get("millrace-participant") ?? "";
    const close = closer(pc, resource);
    return { pc, resource, participant, stream, postStartedAt, answerAt, connected, close };
  } catch (error) {
    pc.close();
    if (resource !== "") void remove(resource);
    throw error instanceof SessionError ? error : new SessionError("refused", String(error), { cause: error });
  }
}

/**
 * @param {RTCPeerConnection} pc
 * @param {string} resource
 */
function closer(pc, resource) {
  let closed = false;
  // A page that is left ends its session, so that the name is free when it comes back.
  const leave = () => void close();
  const close = async () => {
    if (closed) return;
    closed = true;
    removeEventListener("pagehide", leave);
    pc.close();
    await remove(resource);
  };
  addEventListener("pagehide", leave);
  return close;
}

/** @param {string} resource */
async function remove(resource) {
  // `keepalive` lets the request outlive the page. If it fails, consent ends the session (RFC 7675).
  await fetch(resource, { method: "DELETE", keepalive: true }).catch(() => {});
}

/** @param {string | undefined} token @returns {Record<string, string>} */
function authorization(token) {
  return token === undefined || token === "" ? {} : { authorization: `Bearer ${token}` };
}

/**
 * Settles with the connection's first verdict.
 *
 * @param {RTCPeerConnection} pc
 * @returns {Promise<void>}
 */
function untilConnected(pc) {
  return new Promise((resolve, reject) => {
    const end = (/** @type {() => void} */ settle) => {
      clearTimeout(timer);
      pc.removeEventListener("connectionstatechange", look);
      settle();
    };
    const fail = (/** @type {string} */ text) => end(() => reject(new SessionError("connection", text)));
    const look = () => {
      if (pc.connectionState === "connected") end(resolve);
      if (pc.connectionState === "failed") fail("The media connection failed.");
      if (pc.connectionState === "closed") fail("The session was closed.");
    };
    const timer = setTimeout(
      () => fail("No media connection within 20 s: is UDP to the server's media port open?"),
      CONNECT_TIMEOUT_MS,
    );
    pc.addEventListener("connectionstatechange", look);
    look();
  });
}

/**
 * `fetch` whose failures say what they are.
 *
 * @param {string | URL} url
 * @param {RequestInit} init
 * @returns {Promise<Response>}
 */
async function request(url, init) {
  const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
  try {
    return await fetch(url, { cache: "no-store", ...init, signal });
  } catch (error) {
    if (timeout.aborted) throw new SessionError("timeout", "The server did not answer within 10 s.", { cause: error });
    throw new SessionError("unreachable", "The server cannot be reached.", { cause: error });
  }
}

/**
 * The server's problem (RFC 9457) as an error.
 *
 * @param {Response} response
 * @returns {Promise<SessionError>}
 */
async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const kind = typeof problem.type === "string" ? problem.type.split(":").at(-1) : "refused";
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return new SessionError(kind, problem.detail ?? `The server answered ${response.status}.`, {
    status: response.status,
    field: problem.field,
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
  });
}
