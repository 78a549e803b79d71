// SPDX-License-Identifier: Apache-2.0
/**
 * Drives one browser inside one network namespace for a lab.
 *
 * Started as `node browser.js CONFIG` (JSON, see {@link Config}); reads one JSON command per line from stdin
 * (`{"id", "op", …}`) and answers each with one line on stdout (`{"id", "ok", "value" | "error"}`). What the browser
 * logs goes to stderr. The browser ends with stdin, with SIGTERM, or with this process: it is never left running.
 *
 * @typedef {object} Config
 * @property {"chromium" | "firefox"} browser
 * @property {string} executable   path of the browser's program
 * @property {string} modules      path of node_modules with puppeteer-core
 * @property {string} profile      folder for the browser's profile
 * @property {string} origin       the server's origin, `http://10.77.0.1:8080`
 * @property {string} room
 * @property {"page" | "whip"} through the door: the page itself, or WHIP and WHEP
 * @property {string[]} scripts    what runs inside the page, in order (senses.js, then room.js or whip.js)
 * @property {string} camera       y4m file (Chromium)
 * @property {string} microphone   wav file (Chromium)
 * @property {number[]} colour     [r, g, b] of the canvas camera (Firefox)
 * @property {number} pitch        hertz of the fake microphone (Firefox)
 */
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");

/** @type {Config} */
const config = JSON.parse(process.argv[2]);
const puppeteer = require(path.join(config.modules, "puppeteer-core"));

const LAUNCH_ATTEMPTS = 3;
const LAUNCH_TIMEOUT_MS = 90_000;
const PAGE_TIMEOUT_MS = 10_000;

let browser;
let page;
let closing = false;

const log = (...words) => console.error(new Date().toISOString(), ...words);

/** How each browser is started: fake capture, plain host candidates, no need for a gesture or a secure origin. */
const LAUNCH = {
  chromium: () => ({
    args: [
      "--no-sandbox",
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream",
      `--use-file-for-fake-video-capture=${config.camera}`,
      `--use-file-for-fake-audio-capture=${config.microphone}`,
      "--autoplay-policy=no-user-gesture-required",
      `--unsafely-treat-insecure-origin-as-secure=${config.origin}`,
      "--disable-features=WebRtcHideLocalIpsWithMdns",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--mute-audio",
    ],
  }),
  firefox: () => ({
    browser: "firefox",
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "media.devices.insecure.enabled": true,
      "media.getusermedia.insecure.enabled": true,
      "media.peerconnection.ice.obfuscate_host_addresses": false,
      "media.navigator.audio.fake_frequency": config.pitch,
      "media.autoplay.default": 0,
      "media.autoplay.blocking_policy": 0,
      "privacy.reduceTimerPrecision": false,
    },
  }),
};

/**
 * Opens the page, again if it does not come up: while a namespace's addresses settle, Chromium gives up loads that are under
 * way (ERR_NETWORK_CHANGED), and a module that is missing is a page that does nothing.
 */
async function open(url) {
  for (let attempt = 1; ; attempt += 1) {
    await page.goto(url, { timeout: LAUNCH_TIMEOUT_MS });
    const isUp = () => document.getElementById("prejoin")?.hidden === false;
    try {
      await page.waitForFunction(isUp, { timeout: PAGE_TIMEOUT_MS });
      return;
    } catch (error) {
      log(`the page did not come up, attempt ${attempt}:`, error.message);
      if (attempt >= LAUNCH_ATTEMPTS) throw error;
    }
  }
}

/** Launches the browser, again if it does not come up: a loaded machine sometimes needs a second attempt. */
async function launch() {
  for (let attempt = 1; ; attempt += 1) {
    const profile = `${config.profile}-${attempt}`;
    fs.mkdirSync(profile, { recursive: true });
    try {
      browser = await puppeteer.launch({
        executablePath: config.executable,
        headless: true,
        userDataDir: profile,
        timeout: LAUNCH_TIMEOUT_MS,
        protocolTimeout: LAUNCH_TIMEOUT_MS,
        ...LAUNCH[config.browser](),
      });
      page = await browser.newPage();
      page.on("console", (message) => log("page:", message.text()));
      page.on("pageerror", (error) => log("page error:", error.message));
      const scripts = config.scripts.map((script) => fs.readFileSync(script, "utf8"));
      if (config.through === "page") {
        // Before the page's own scripts, in every document that it opens: the page asks for a camera at once.
        const shared = { browser: config.browser, colour: config.colour };
        await page.evaluateOnNewDocument(`window.labConfig = ${JSON.stringify(shared)};`);
        for (const script of scripts) await page.evaluateOnNewDocument(script);
        await open(`${config.origin}/r/${config.room}`);
      } else {
        // Any document of this origin that does nothing by itself.
        await page.goto(`${config.origin}/healthz`, { timeout: LAUNCH_TIMEOUT_MS });
        for (const script of scripts) await page.evaluate(script);
      }
      await inPage("start", { browser: config.browser, colour: config.colour });
      return { version: await browser.version(), attempt };
    } catch (error) {
      log(`launch attempt ${attempt} failed:`, error.message);
      await browser?.close().catch(() => {});
      if (attempt >= LAUNCH_ATTEMPTS) throw error;
    }
  }
}

/** Calls `window.lab[name](argument)` inside the page. */
function inPage(name, argument) {
  return page.evaluate((method, value) => window.lab[method](value), name, argument);
}

async function close() {
  if (closing) return;
  closing = true;
  await browser?.close().catch(() => {});
}

const OPERATIONS = {
  launch,
  close,
  join: (command) => inPage("join", { room: config.room, ...command }),
  watch: (command) => inPage("watch", { room: config.room, ...command }),
  firstFrame: (command) => inPage("firstFrame", command),
  mute: () => inPage("mute"),
  sample: () => inPage("sample"),
  perceive: () => inPage("perceive"),
  leave: () => inPage("leave"),
};

async function answer(line) {
  const command = JSON.parse(line);
  let reply;
  try {
    const value = await OPERATIONS[command.op](command);
    reply = { id: command.id, ok: true, value: value ?? null };
  } catch (error) {
    log(`${command.op} failed:`, error.stack);
    reply = { id: command.id, ok: false, error: String(error.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", answer);
lines.on("close", () => close().finally(() => process.exit(0)));
process.on("SIGTERM", () => close().finally(() => process.exit(0)));
