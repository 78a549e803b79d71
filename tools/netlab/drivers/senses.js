// SPDX-License-Identifier: Apache-2.0
/**
 * What every lab does inside a page: a camera with one colour, looking, listening and reading statistics. Loaded before
 * `room.js` or `whip.js`, which are the two doors into a room.
 */
(() => {
  "use strict";

  /** Size of the canvas from which a colour is read. */
  const LOOK = { width: 64, height: 36 };
  /** 48 kHz / 16384 = 2.9 Hz for each bin. */
  const FFT_SIZE = 16384;
  /** Quieter than this is silence. */
  const AUDIBLE_DB = -80;

  let audio;

  /** An audio context without a sound card; null where the browser cannot have one (Firefox's never starts). */
  function audioContext() {
    if (audio === undefined) {
      const needsNoCard = "setSinkId" in AudioContext.prototype;
      audio = needsNoCard ? new AudioContext({ sampleRate: 48000, sinkId: { type: "none" } }) : null;
    }
    return audio;
  }

  /** A camera of one colour with a moving grey bar at the bottom, for a browser whose fake camera takes no file. */
  function paintedCamera(colour) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 640, height: 360 });
    const context = canvas.getContext("2d");
    let tick = 0;
    const draw = () => {
      context.fillStyle = `rgb(${colour.join(",")})`;
      context.fillRect(0, 0, 640, 360);
      context.fillStyle = "rgb(128,128,128)";
      context.fillRect((tick * 16) % 640, 300, 80, 40);
      tick += 1;
    };
    draw();
    setInterval(draw, 1000 / 15);
    return canvas.captureStream(15).getVideoTracks();
  }

  /**
   * Takes camera and microphone, both fake: Chromium plays files, Firefox hums at the pitch of its preferences. Sound
   * processing is off, or a steady tone is taken for noise and removed.
   *
   * @param {(constraints: object) => Promise<MediaStream>} getUserMedia the browser's own
   * @param {{browser: string, colour: number[]}} config
   * @param {{audio: boolean, video: boolean}} wish
   */
  async function capture(getUserMedia, { browser, colour }, wish) {
    const isPainted = browser === "firefox" && wish.video;
    const sound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const picture = { width: 640, height: 360, frameRate: 15 };
    const asked = { audio: wish.audio && sound, video: wish.video && !isPainted && picture };
    const stream = asked.audio || asked.video ? await getUserMedia(asked) : new MediaStream();
    return new MediaStream([...stream.getTracks(), ...(isPainted ? paintedCamera(colour) : [])]);
  }

  /** An analyser that follows a stream; null without an audio context. */
  function liveAnalyser(stream) {
    const context = audioContext();
    if (!context || stream.getTracks().length === 0) return null;
    const analyser = new AnalyserNode(context, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
    context.createMediaStreamSource(stream).connect(analyser);
    context.resume();
    return analyser;
  }

  /** An analyser that has heard a second and a half of a stream from a recording of it. */
  async function recordedAnalyser(stream) {
    const recorder = new MediaRecorder(stream);
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.start();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.stop();
    await stopped;
    const bytes = await new Blob(parts).arrayBuffer();
    const sound = await new OfflineAudioContext(1, 48000, 48000).decodeAudioData(bytes);
    // Rendered as long as the recording: the analyser then holds its end.
    const context = new OfflineAudioContext(1, sound.length, sound.sampleRate);
    const analyser = new AnalyserNode(context, { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
    const source = new AudioBufferSourceNode(context, { buffer: sound });
    source.connect(analyser).connect(context.destination);
    source.start();
    await context.startRendering();
    return analyser;
  }

  const VIDEO = ["framesReceived", "framesDecoded", "framesDropped", "freezeCount", "totalFreezesDuration", "keyFramesDecoded"];
  const PACKETS = ["packetsReceived", "packetsLost", "packetsDiscarded", "bytesReceived", "jitter", "nackCount", "pliCount"];
  const AUDIO = ["totalSamplesReceived", "concealedSamples", "totalAudioEnergy"];
  const SENT = ["packetsSent", "framesEncoded", "framesSent", "nackCount", "pliCount", "retransmittedPacketsSent", "rid"];

  const pick = (report, keys) => Object.fromEntries(keys.map((key) => [key, report[key] ?? null]));

  /** The statistics that the checks need, of a peer connection or of some of its receivers. */
  async function statistics(pc, receivers = [pc]) {
    const result = { state: pc.connectionState, video: null, audio: null, sent: [], srtpCipher: null, tlsVersion: null };
    const reports = (await Promise.all(receivers.map((one) => one.getStats()))).flatMap((found) => [...found.values()]);
    const codec = (report) => reports.find((other) => other.id === report.codecId)?.mimeType ?? null;
    for (const report of reports) {
      if (report.type === "inbound-rtp") {
        const keys = report.kind === "video" ? [...VIDEO, ...PACKETS] : [...PACKETS, ...AUDIO];
        result[report.kind] = { ...pick(report, keys), codec: codec(report) };
      } else if (report.type === "outbound-rtp") {
        result.sent.push({ kind: report.kind, codec: codec(report), ...pick(report, SENT) });
      } else if (report.type === "transport") {
        Object.assign(result, pick(report, ["srtpCipher", "tlsVersion"]));
      }
    }
    return result;
  }

  /** Mean colour of the middle of the picture. */
  function look(video) {
    const canvas = new OffscreenCanvas(LOOK.width, LOOK.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0, LOOK.width, LOOK.height);
    const { data } = context.getImageData(LOOK.width / 2 - 4, LOOK.height / 2 - 4, 8, 8);
    const sums = [0, 0, 0];
    for (let at = 0; at < data.length; at += 1) if (at % 4 < 3) sums[at % 4] += data[at];
    return sums.map((sum) => Math.round(sum / (data.length / 4)));
  }

  /** Frequency of the loudest bin, refined between its neighbours, and its level. */
  function listen(analyser) {
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    let peak = 1;
    for (let at = 2; at < bins.length - 1; at += 1) if (bins[at] > bins[peak]) peak = at;
    const [before, top, after] = [bins[peak - 1], bins[peak], bins[peak + 1]];
    if (!Number.isFinite(top) || top < AUDIBLE_DB) return { pitch: null, decibels: null };
    const bend = before - 2 * top + after;
    const shift = Number.isFinite(bend) && bend !== 0 ? (0.5 * (before - after)) / bend : 0;
    const width = analyser.context.sampleRate / analyser.fftSize;
    return { pitch: (peak + shift) * width, decibels: top };
  }

  /** What is seen in a video element and heard of a stream. */
  async function perceive(video, sound, analyser) {
    const hasSound = sound.getTracks().length > 0;
    const heard = hasSound ? listen(analyser ?? (await recordedAnalyser(sound))) : { pitch: null };
    return { colour: video !== null && video.videoWidth > 0 ? look(video) : null, ...heard };
  }

  window.senses = { capture, liveAnalyser, perceive, statistics };
})();
