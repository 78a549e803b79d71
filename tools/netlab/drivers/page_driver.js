// SPDX-License-Identifier: Apache-2.0
/**
 * Drives the meeting page as a person does, in one browser with a tab for each person.
 *
 * Started as `node page_driver.js CONFIG` (JSON, see {@link Config}); reads one JSON command per line from stdin
 * (`{"id", "op", …}`) and answers each with one line on stdout (`{"id", "ok", "value" | "error"}`). The browser ends with
 * stdin, with SIGTERM, or with this process.
 *
 * @typedef {object} Config
 * @property {"chromium" | "firefox"} browser
 * @property {string} executable   path of the browser's program
 * @property {string} modules      path of node_modules with puppeteer-core
 * @property {string} profile      folder for the browser's profile
 * @property {string} origin       the server's origin, `http://10.77.0.1:8080`
 * @property {string} inside       script that runs in every page before its own (page_inside.js)
 * @property {string} camera       y4m file (Chromium)
 * @property {string} microphone   wav file (Chromium)
 * @property {number} pitch        hertz of the fake microphone (Firefox)
 */
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");

/** @type {Config} */
const config = JSON.parse(process.argv[2]);
const puppeteer = require(path.join(config.modules, "puppeteer-core"));

const LAUNCH_TIMEOUT_MS = 90_000;
const LAUNCH_ATTEMPTS = 3;

let browser;
let closing = false;
/** Tabs by name. */
const tabs = new Map();

const log = (...words) => console.error(new Date().toISOString(), ...words);

const LAUNCH = {
  chromium: () => ({
    args: [
      "--no-sandbox",
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream",
      `--use-file-for-fake-video-capture=${config.camera}`,
      `--use-file-for-fake-audio-capture=${config.microphone}`,
      "--auto-select-desktop-capture-source=Entire screen",
      `--unsafely-treat-insecure-origin-as-secure=${config.origin}`,
      "--disable-features=WebRtcHideLocalIpsWithMdns",
      // Tabs in the background are people too.
      "--disable-background-timer-throttling",
      "--disable-renderer-backgrounding",
      "--disable-backgrounding-occluded-windows",
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
      "privacy.reduceTimerPrecision": false,
      "dom.min_background_timeout_value": 10,
    },
  }),
};

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
      return { version: await browser.version(), attempt };
    } catch (error) {
      log(`launch attempt ${attempt} failed:`, error.message);
      await browser?.close().catch(() => {});
      if (attempt >= LAUNCH_ATTEMPTS) throw error;
    }
  }
}

/**
 * A new tab with storage of its own. `inside` goes to page_inside.js: which devices are missing, what the camera draws.
 *
 * @param {{tab: string, path: string, size?: [number, number], dark?: boolean, inside?: object}} command
 */
async function open({ tab, path: where, size = [1280, 800], dark, inside = {} }) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  tabs.set(tab, { page, context });
  page.on("console", (message) => log(`${tab}:`, message.text()));
  page.on("pageerror", (error) => log(`${tab}: page error:`, error.message));
  await page.setViewport({ width: size[0], height: size[1] });
  if (dark !== undefined && config.browser === "chromium") {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  }
  if (config.browser === "chromium") {
    const permissions = ["clipboard-read", "clipboard-write"];
    await context.overridePermissions(config.origin, ["camera", "microphone", ...permissions]).catch(() => {});
  }
  const script = fs.readFileSync(config.inside, "utf8");
  await page.evaluateOnNewDocument(`window.labWish = ${JSON.stringify(inside)};\n${script}`);
  await page.goto(`${config.origin}${where}`, { timeout: LAUNCH_TIMEOUT_MS, waitUntil: "domcontentloaded" });
}

const pageOf = (tab) => {
  const found = tabs.get(tab);
  if (found === undefined) throw new Error(`there is no tab ${tab}`);
  return found.page;
};

/** Milliseconds until the expression holds; null when `timeoutMs` pass first. */
async function until({ tab, expression, timeoutMs }) {
  const page = pageOf(tab);
  const start = performance.now();
  for (;;) {
    // A page that is just being loaded has no context for a moment.
    const holds = await page.evaluate(`Boolean(${expression})`).catch((error) => log("until:", error.message));
    const took = performance.now() - start;
    if (holds === true) return { ms: took };
    if (took > timeoutMs) return { ms: null };
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

async function type({ tab, element, text }) {
  const page = pageOf(tab);
  await page.evaluate(`document.getElementById(${JSON.stringify(element)}).value = ""`);
  await page.type(`#${element}`, text === "" ? "\u0008" : text);
}

const OPERATIONS = {
  launch,
  open,
  close: async ({ tab }) => {
    const found = tabs.get(tab);
    tabs.delete(tab);
    await found?.context.close();
  },
  visit: ({ tab, path: where }) => pageOf(tab).goto(`${config.origin}${where}`, { waitUntil: "domcontentloaded" }).then(() => null),
  reload: ({ tab }) => pageOf(tab).reload({ waitUntil: "domcontentloaded" }).then(() => null),
  front: ({ tab }) => pageOf(tab).bringToFront(),
  size: ({ tab, size }) => pageOf(tab).setViewport({ width: size[0], height: size[1] }),
  click: ({ tab, element }) => pageOf(tab).click(`#${element}`),
  press: ({ tab, key }) => pageOf(tab).keyboard.press(key),
  type,
  choose: ({ tab, element, value }) => pageOf(tab).select(`#${element}`, value),
  read: ({ tab, expression }) => pageOf(tab).evaluate(expression),
  until,
  picture: ({ tab, file }) => pageOf(tab).screenshot({ path: file }).then(() => null),
};

async function end() {
  if (closing) return;
  closing = true;
  await browser?.close().catch(() => {});
}

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
lines.on("close", () => end().finally(() => process.exit(0)));
process.on("SIGTERM", () => end().finally(() => process.exit(0)));
