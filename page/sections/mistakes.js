// The confusion matrix of the released model; each cell shows its test images.

import { counted, percent } from "../computed/numbers.js";
import { byId, element, fill, scrolling } from "../parts/dom.js";
import { announce } from "../parts/live.js";
import { ask } from "../service/api.js";

/** @import { Session } from "../service/session.js" */
/** @import { Mistakes } from "../types.d.ts" */

/** @type {Record<string, [number, number]>} */
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * @param {Session} session
 * @param {Mistakes} mistakes
 */
export function showMistakes(session, mistakes) {
  const section = byId("mistakes");
  section.hidden = false;
  const images = element("div", { class: "tiles" });
  const correct = mistakes.matrix.reduce((sum, row, place) => sum + row[place], 0);
  section.append(
    element("p", {}, `${correct.toLocaleString("en")} of ${counted(mistakes.images, "test image")} are answered correctly: ${percent(correct / mistakes.images)}.`),
    element("div", { class: "matrix-and-tiles" }, scrolling("Confusion matrix", new Matrix(mistakes, (row, column) => tiles.show(row, column)).root), images),
  );
  const tiles = new Tiles(session, mistakes, images);
}

/** The table: one stop for the Tab key, arrow keys within. */
class Matrix {
  /**
   * @param {Mistakes} mistakes
   * @param {(row: number, column: number) => void} choose
   */
  constructor(mistakes, choose) {
    const { classes, matrix } = mistakes;
    const most = Math.max(...matrix.flatMap((row, place) => row.filter((_, column) => column !== place)));
    /** @type {HTMLButtonElement[][]} */
    this.buttons = matrix.map((counts, row) =>
      counts.map((count, column) => {
        const level = row === column ? "right" : count ? `level-${Math.min(5, 1 + Math.floor((5 * count) / (most + 1)))}` : "zero";
        return element(
          "button",
          {
            type: "button",
            class: `count ${level}`,
            tabIndex: row || column ? -1 : 0,
            "aria-label": row === column ? `${classes[row]}: ${count} correct` : `${classes[row]} taken for ${classes[column]}: ${count}`,
            onclick: () => {
              this.focus(row, column);
              choose(row, column);
            },
            onkeydown: (/** @type {KeyboardEvent} */ event) => this.press(event, row, column),
          },
          String(count),
        );
      }),
    );
    const heads = classes.map((name) => element("th", { scope: "col" }, element("span", {}, name)));
    const rows = this.buttons.map((buttons, row) =>
      element("tr", {}, element("th", { scope: "row" }, classes[row]), ...buttons.map((button) => element("td", {}, button))),
    );
    this.root = element(
      "table",
      { class: "matrix" },
      element("caption", {}, "Rows: what it is. Columns: what was answered."),
      element("thead", {}, element("tr", {}, element("td", {}), ...heads)),
      element("tbody", {}, ...rows),
    );
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  focus(row, column) {
    for (const button of this.buttons.flat()) button.tabIndex = -1;
    this.buttons[row][column].tabIndex = 0;
    this.buttons[row][column].focus();
  }

  /**
   * @param {KeyboardEvent} event
   * @param {number} row
   * @param {number} column
   */
  press(event, row, column) {
    const move = MOVES[event.key];
    if (!move || !this.buttons[row + move[0]]?.[column + move[1]]) return;
    event.preventDefault();
    this.focus(row + move[0], column + move[1]);
  }
}

/** The test images of one cell. */
class Tiles {
  /**
   * @param {Session} session
   * @param {Mistakes} mistakes
   * @param {HTMLElement} place
   */
  constructor(session, mistakes, place) {
    this.session = session;
    this.mistakes = mistakes;
    this.place = place;
    /** @type {Promise<ImageBitmap> | null} */
    this.sprite = null;
    fill(place, element("p", { class: "hint" }, "The images of the number that you choose stand here."));
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  async show(row, column) {
    const { classes, cells, matrix } = this.mistakes;
    const all = cells[row][column];
    const title = row === column ? `${classes[row]}, answered correctly` : `${classes[row]} taken for ${classes[column]}`;
    const many = matrix[row][column] === all.length ? counted(all.length, "image") : `${all.length} of ${counted(matrix[row][column], "image")}, the surest first`;
    let sprite;
    try {
      sprite = await (this.sprite ??= this.load());
    } catch (error) {
      this.sprite = null;
      const message = error instanceof Error ? error.message : String(error);
      return fill(this.place, element("p", { class: "message", role: "alert" }, message));
    }
    announce(`${title}: ${many}`);
    fill(
      this.place,
      element("h3", {}, title),
      element("p", { class: "hint" }, all.length ? many : "None is at hand."),
      element("div", { class: "tile-list" }, ...all.map((tile) => this.button(sprite, tile))),
    );
  }

  async load() {
    const response = await ask(this.mistakes.sprite.url);
    return createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  }

  /**
   * @param {ImageBitmap} sprite
   * @param {number} tile
   */
  button(sprite, tile) {
    const { tiles, classes, sprite: about } = this.mistakes;
    const { width, height } = about.tile;
    const { image, label, answered, probability } = tiles[tile];
    const canvas = element("canvas", { width, height, "aria-hidden": "true" });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    context.drawImage(sprite, (tile % about.columns) * width, Math.floor(tile / about.columns) * height, width, height, 0, 0, width, height);
    const text = `Test image ${image}: ${classes[label]}, answered ${classes[answered]} with ${percent(probability)}`;
    const put = () => {
      const { data } = context.getImageData(0, 0, width, height);
      const pixels = Uint8Array.from({ length: width * height }, (_, place) => data[4 * place]);
      this.session.show({ name: `test image ${image}, a ${classes[label]}`, body: new Blob([pixels]), raw: true, origin: "mistake" });
      byId("answer").scrollIntoView({ block: "start" });
    };
    return element("button", { type: "button", class: "tile", title: text, "aria-label": text, onclick: put }, canvas);
  }
}
