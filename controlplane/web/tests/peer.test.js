// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";

import { shortened } from "../peer.js";

const lines = (/** @type {string[]} */ ...all) => `${all.join("\r\n")}\r\n`;

test("an offer loses what the server does not need and nothing else", () => {
  const first = ["m=audio 9 UDP/TLS/RTP/SAVPF 109", "c=IN IP4 0.0.0.0", "a=candidate:1 1 udp 1 10.0.0.1 9 typ host", "a=ice-ufrag:u", "a=fingerprint:sha-256 AA", "a=rtpmap:109 opus/48000/2", "a=mid:0"];
  const second = ["m=video 9 UDP/TLS/RTP/SAVPF 96", "a=ice-ufrag:u", "a=ice-pwd:p", "a=setup:actpass", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:121 nack", "a=rtcp-mux", "a=mid:1"];
  const session = ["v=0", "a=fingerprint:sha-256 BB", "a=group:BUNDLE 0 1"];
  assert.equal(
    shortened(lines(...session, ...first, ...second)),
    lines(
      ...session,
      "m=audio 9 UDP/TLS/RTP/SAVPF 109", "c=IN IP4 0.0.0.0", "a=ice-ufrag:u", "a=fingerprint:sha-256 AA", "a=rtpmap:109 opus/48000/2", "a=mid:0",
      "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-mux", "a=mid:1",
    ),
  );
});
