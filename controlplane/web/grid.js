// SPDX-License-Identifier: Apache-2.0
// Where tiles go: rectangles for a number of people in a given space. Pure; `stage.js` puts them on the page.

/**
 * @typedef {{x: number, y: number, width: number, height: number}} Rect
 * @typedef {{width: number, height: number}} Size
 */

/** Widths to heights that a tile may have, the best first. */
const ASPECTS = [16 / 9, 4 / 3, 1];
/** What a less good shape costs, as a share of the area. */
const ASPECT_COST = [1, 0.9, 0.6];
/** What each empty cell of the last row costs. */
const HOLE_COST = 0.05;
/** A strip's tiles are not smaller and not larger than this. */
const STRIP_MIN = 132;
const STRIP_MAX = 264;

/**
 * Equal tiles, as large as they can be; the last row is centred.
 *
 * @param {number} count
 * @param {Size} space
 * @param {number} gap
 * @returns {Rect[]}
 */
export function gridLayout(count, space, gap) {
  if (count <= 0 || space.width <= 0 || space.height <= 0) return [];
  let best = { score: -1, columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cell = {
      width: (space.width - gap * (columns - 1)) / columns,
      height: (space.height - gap * (rows - 1)) / rows,
    };
    if (cell.width <= 0 || cell.height <= 0) continue;
    for (const [at, aspect] of ASPECTS.entries()) {
      const width = Math.min(cell.width, cell.height * aspect);
      const height = width / aspect;
      const holes = columns * rows - count;
      const score = width * height * (ASPECT_COST[at] ?? 1) * (1 - HOLE_COST * holes);
      if (score > best.score) best = { score, columns, width, height };
    }
  }
  return place(count, space, gap, best);
}

/**
 * @param {number} count
 * @param {Size} space
 * @param {number} gap
 * @param {{columns: number, width: number, height: number}} shape
 * @returns {Rect[]}
 */
function place(count, space, gap, { columns, width, height }) {
  const rows = Math.ceil(count / columns);
  const top = (space.height - rows * height - (rows - 1) * gap) / 2;
  return Array.from({ length: count }, (_, at) => {
    const row = Math.floor(at / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = (space.width - inRow * width - (inRow - 1) * gap) / 2;
    const column = at - row * columns;
    return rounded({ x: left + column * (width + gap), y: top + row * (height + gap), width, height });
  });
}

/**
 * One large picture with a strip of people: beside it where the space is wide, below it where it is high. People who find
 * no place in the strip get none.
 *
 * @param {number} count people in the strip
 * @param {Size} space
 * @param {number} gap
 * @returns {{main: Rect, strip: Rect[]}}
 */
export function stageLayout(count, space, gap) {
  if (count === 0) return { main: rounded({ x: 0, y: 0, ...space }), strip: [] };
  return space.width >= space.height * 1.1 ? besideStage(count, space, gap) : belowStage(count, space, gap);
}

/** @param {number} count @param {Size} space @param {number} gap @returns {{main: Rect, strip: Rect[]}} */
function besideStage(count, space, gap) {
  const width = Math.min(STRIP_MAX, Math.max(STRIP_MIN, space.width * 0.2));
  const height = (width * 9) / 16;
  const fits = Math.max(1, Math.floor((space.height + gap) / (height + gap)));
  const shown = Math.min(count, fits);
  const top = (space.height - shown * height - (shown - 1) * gap) / 2;
  const x = space.width - width;
  const strip = Array.from({ length: shown }, (_, at) => rounded({ x, y: top + at * (height + gap), width, height }));
  return { main: rounded({ x: 0, y: 0, width: space.width - width - gap, height: space.height }), strip };
}

/** @param {number} count @param {Size} space @param {number} gap @returns {{main: Rect, strip: Rect[]}} */
function belowStage(count, space, gap) {
  const width = Math.min(STRIP_MAX, Math.max(STRIP_MIN, (space.width - gap) / Math.min(2, count)));
  const fits = Math.max(1, Math.floor((space.width + gap) / (width + gap)));
  const shown = Math.min(count, fits);
  const height = Math.min((width * 3) / 4, space.height * 0.3);
  const left = (space.width - shown * width - (shown - 1) * gap) / 2;
  const y = space.height - height;
  const strip = Array.from({ length: shown }, (_, at) => rounded({ x: left + at * (width + gap), y, width, height }));
  return { main: rounded({ x: 0, y: 0, width: space.width, height: y - gap }), strip };
}

/** Whole pixels: borders stay sharp. @param {Rect} rect @returns {Rect} */
function rounded({ x, y, width, height }) {
  return { x: Math.round(x), y: Math.round(y), width: Math.floor(width), height: Math.floor(height) };
}
