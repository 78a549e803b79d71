// SPDX-License-Identifier: Apache-2.0
// Keeps the screen on during a meeting, where the browser can. Who hides the page gives it up; it is asked for again.

/** @returns {() => void} ends it */
export function stayAwake() {
  /** @type {WakeLockSentinel | null} */
  let lock = null;
  let isOver = false;
  const ask = async () => {
    if (isOver || document.visibilityState !== "visible" || navigator.wakeLock === undefined) return;
    // Refused on a low battery; a meeting goes on without.
    lock = await navigator.wakeLock.request("screen").catch(() => null);
    if (isOver) void lock?.release();
  };
  const look = () => void ask();
  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    isOver = true;
    document.removeEventListener("visibilitychange", look);
    void lock?.release();
  };
}
