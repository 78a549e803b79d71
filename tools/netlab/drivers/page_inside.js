// SPDX-License-Identifier: Apache-2.0
/**
 * Runs in every document before the page's own scripts. It takes devices away where `labWish.without` names them, refuses
 * them where `labWish.deny` is set, all of them with `labWish.insecure`, draws the camera where `labWish.portrait` is a hue, and notes when things happened.
 */
(() => {
  "use strict";

  const wish = window.labWish ?? {};
  const without = new Set(wish.without ?? []);
  const epoch = () => performance.timeOrigin + performance.now();
  /** When #join was pressed, and when each tile first had a picture: milliseconds of the epoch. */
  window.labTimes = { joined: null, shown: {} };

  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("#join")) window.labTimes.joined = epoch();
  }, true);
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      const name = target.dataset?.testid;
      if (name !== undefined && target.dataset.shown !== undefined) window.labTimes.shown[name] ??= epoch();
    }
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-shown"] });

  /** When the last frame on each tile was presented. */
  const presented = new Map();
  const followed = new WeakSet();
  setInterval(() => {
    for (const video of document.querySelectorAll(".tile video")) {
      if (followed.has(video)) continue;
      followed.add(video);
      const name = video.closest(".tile").dataset.testid;
      const step = () => {
        presented.set(name, epoch());
        video.requestVideoFrameCallback(step);
      };
      video.requestVideoFrameCallback(step);
    }
  }, 50);
  /** Milliseconds since the last frame on a tile was presented; infinite when there was none. */
  window.labAge = (name) => epoch() - (presented.get(name) ?? -Infinity);

  if (wish.insecure) {
    Object.defineProperty(window, "isSecureContext", { value: false });
    Object.defineProperty(navigator, "mediaDevices", { value: undefined });
  }
  const devices = navigator.mediaDevices;
  if (devices === undefined) return;
  const ownList = devices.enumerateDevices.bind(devices);
  const ownOpen = devices.getUserMedia.bind(devices);
  const KINDS = { audioinput: "microphone", videoinput: "camera" };

  devices.enumerateDevices = async () => (await ownList()).filter((device) => !without.has(KINDS[device.kind]));
  devices.getUserMedia = async (constraints) => {
    if (wish.deny) throw new DOMException("Permission denied", "NotAllowedError");
    if (constraints.audio && without.has("microphone")) throw new DOMException("none", "NotFoundError");
    if (constraints.video && without.has("camera")) throw new DOMException("none", "NotFoundError");
    const isDrawn = wish.portrait !== undefined && Boolean(constraints.video);
    // A steady tone is taken for noise and removed.
    const sound = constraints.audio && { ...Object(constraints.audio), echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const asked = { audio: sound, video: isDrawn ? false : constraints.video };
    const stream = asked.audio || asked.video ? await ownOpen(asked) : new MediaStream();
    return isDrawn ? new MediaStream([...stream.getTracks(), portrait(wish.portrait)]) : stream;
  };
  // Firefox has none of its own on an origin that is not secure.
  if (wish.slides) {
    devices.getDisplayMedia = async () => new MediaStream([slides()]);
  }

  /** Somebody in front of a wall, for pictures of the page. */
  function portrait(hue) {
    return drawn(640, 360, 8, (context, tick) => {
      const wall = context.createLinearGradient(0, 0, 640, 360);
      wall.addColorStop(0, `hsl(${hue} 26% 74%)`);
      wall.addColorStop(1, `hsl(${hue + 24} 26% 52%)`);
      context.fillStyle = wall;
      context.fillRect(0, 0, 640, 360);
      context.fillStyle = `hsl(${hue + 12} 24% 82%)`;
      context.fillRect(440, 40, 150, 110);
      context.fillStyle = `hsl(${hue + 12} 30% 66%)`;
      context.fillRect(450, 50, 130, 90);
      const sway = Math.sin(tick / 14) * 5;
      const skin = `hsl(${22 + (hue % 9)} ${38 + (hue % 20)}% ${44 + ((hue * 7) % 32)}%)`;
      const hair = `hsl(${18 + (hue % 20)} 30% ${12 + ((hue * 3) % 26)}%)`;
      const ellipse = (colour, ...shape) => {
        context.fillStyle = colour;
        context.beginPath();
        context.ellipse(...shape);
        context.fill();
      };
      ellipse(hair, 300 + sway, 172, 78, hue % 2 ? 92 : 112, 0, 0, 7);
      ellipse(`hsl(${hue + 170} 32% 34%)`, 300 + sway / 2, 404, 158, 132, 0, 0, 7);
      ellipse(skin, 300 + sway, 262, 34, 44, 0, 0, 7);
      ellipse(skin, 300 + sway, 190, 62, 78, 0, 0, 7);
      ellipse(hair, 300 + sway, 132, 66, 34, 0, 3.1, 6.4);
      ellipse("#2b2420", 278 + sway, 186, 5, tick % 50 < 2 ? 1 : 5, 0, 0, 7);
      ellipse("#2b2420", 322 + sway, 186, 5, tick % 50 < 2 ? 1 : 5, 0, 0, 7);
      ellipse("#8c4a40", 300 + sway, 232, 16, 4 + 3 * Math.abs(Math.sin(tick / 3)), 0, 0, 7);
    });
  }

  /** A screen with a chart on it. */
  function slides() {
    return drawn(1280, 720, 5, (context, tick) => {
      context.fillStyle = "#ffffff";
      context.fillRect(0, 0, 1280, 720);
      context.fillStyle = "#13191d";
      context.font = "600 52px system-ui, sans-serif";
      context.fillText("Packets forwarded per second", 90, 120);
      [180, 260, 240, 340, 390, 460].forEach((height, at) => {
        context.fillStyle = at === 5 ? "#0b7285" : "#b9d9df";
        context.fillRect(110 + at * 180, 640 - height - (tick % 2), 110, height);
      });
    });
  }

  function drawn(width, height, rate, draw) {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    let tick = 0;
    const step = () => draw(context, (tick += 1));
    step();
    setInterval(step, 1000 / rate);
    return canvas.captureStream(rate).getVideoTracks()[0];
  }
})();
