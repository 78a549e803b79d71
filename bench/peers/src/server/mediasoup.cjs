// SPDX-License-Identifier: Apache-2.0
// Drives one mediasoup worker: a client for each line of JSON, answered by one line (src/orders.rs says what they hold).
const mediasoup = require('mediasoup');
const net = require('node:net');
const readline = require('node:readline');

const [ip, port] = [process.argv[2], Number(process.argv[3])];
const CODECS = {
  audio: { kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2, preferredPayloadType: 111 },
  video: { kind: 'video', mimeType: 'video/VP8', clockRate: 90000, preferredPayloadType: 96 },
};

async function main() {
  const worker = await mediasoup.createWorker({ logLevel: 'warn' });
  worker.on('died', () => process.exit(1));
  const router = await worker.createRouter({ mediaCodecs: Object.values(CODECS) });
  const webRtcServer = await worker.createWebRtcServer({ listenInfos: [{ protocol: 'udp', ip, port }] });
  const producers = [];
  // Forwarding is measured: no estimate of anybody's way, no retransmissions.
  const codecs = router.rtpCapabilities.codecs.filter((codec) => !codec.mimeType.endsWith('/rtx'));
  const rtpCapabilities = { codecs: codecs.map((codec) => ({ ...codec, rtcpFeedback: [] })), headerExtensions: [] };

  async function join({ publisher, fingerprint, sources }) {
    const transport = await router.createWebRtcTransport({ webRtcServer, enableUdp: true, enableTcp: false });
    const [algorithm, value] = fingerprint.split(' ');
    await transport.connect({ dtlsParameters: { role: 'client', fingerprints: [{ algorithm, value }] } });
    if (publisher) {
      for (const { video, ssrc, pt } of sources) {
        const { kind, mimeType, clockRate, channels } = CODECS[video ? 'video' : 'audio'];
        const codec = { mimeType, clockRate, channels, payloadType: pt };
        const rtpParameters = { mid: kind, codecs: [codec], encodings: [{ ssrc }], rtcp: { cname: 'bench' } };
        producers.push(await transport.produce({ kind, rtpParameters }));
      }
    } else {
      for (const { id } of producers) await transport.consume({ producerId: id, rtpCapabilities, paused: false });
    }
    const { usernameFragment: ufrag, password: pwd } = transport.iceParameters;
    const own = transport.dtlsParameters.fingerprints.find((one) => one.algorithm === 'sha-256');
    return { ufrag, pwd, fingerprint: `sha-256 ${own.value}`, address: `${ip}:${port}` };
  }

  net.createServer(async (socket) => {
    for await (const line of readline.createInterface({ input: socket })) {
      const said = await join(JSON.parse(line)).catch((error) => ({ error: String(error) }));
      socket.write(`${JSON.stringify(said)}\n`);
    }
  }).listen(port, ip, () => console.log(`ready: ${worker.pid}`));
}

main().catch((error) => { console.error(error); process.exit(1); });
