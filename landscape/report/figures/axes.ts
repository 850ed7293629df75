// The parts that figures share: page set-up, axes, panels in rows, colour bar, legend, footnotes.
//
// Axes are two thin lines with outward ticks; no panel has a second frame. All lengths are points, and everything
// scales with the font size, so that a figure made for 84 mm and 7 pt looks like one made for 174 mm and 9 pt.
import { type ScaleContinuousNumeric, scaleLinear } from "d3-scale";
import { type ColourScale, PRINT, type Theme } from "./colour.ts";
import {
  type Child,
  decimal,
  element,
  join,
  type Label,
  type LabelPart,
  type Markup,
  POINTS_PER_MM,
  pathData,
  plain,
  svgDocument,
  textElement,
  textWidth,
} from "./svg.ts";

/** Options of every figure. */
export interface FigureOptions {
  /** Width of the figure; 84 mm is one column of a two-column page, 174 mm the whole page. */
  widthMm?: number;
  /** Size of tick labels; titles are larger, isoline numbers smaller. */
  fontPt?: number;
  theme?: Theme;
  /** Adds invisible targets with data-step, for a page that links figures to its slider. */
  isLinked?: boolean;
}

/** Options with defaults filled in, and the lengths that follow from them. */
export interface Sheet {
  widthPt: number;
  fontPt: number;
  em: number;
  line: number;
  theme: Theme;
  isLinked: boolean;
}

export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

export type Scale = ScaleContinuousNumeric<number, number>;

/** Font size of figures whose caller chooses none. */
export const DEFAULT_FONT_PT = 7.5;

/** Why a figure of this size would be illegible, and what to change; null if it is legible. */
export function sizeProblem(widthMm: number, fontPt: number): string | null {
  // Axis labels, tick labels and a colour bar take 12 em; the rest is the drawing.
  const leastMm = Math.max(40, Math.ceil((22 * fontPt) / POINTS_PER_MM));
  if (widthMm >= leastMm && widthMm <= 1000 && fontPt >= 3) return null;
  const got = `got ${widthMm} mm and ${fontPt} pt`;
  if (!(fontPt >= 3)) return `expected a font of at least 3 pt, ${got}. Choose a larger font.`;
  if (!(widthMm <= 1000)) return `expected a width of at most 1000 mm, ${got}. Make it narrower.`;
  return `expected a width of at least ${leastMm} mm at ${fontPt} pt, ${got}. Make it wider or the font smaller.`;
}

/**
 * @throws RangeError for a size at which a figure would be illegible
 */
export function sheetOf(options: FigureOptions, defaultWidthMm: number): Sheet {
  const { widthMm = defaultWidthMm, fontPt = DEFAULT_FONT_PT, theme = PRINT, isLinked = false } = options;
  const widthPt = widthMm * POINTS_PER_MM;
  const problem = sizeProblem(widthMm, fontPt);
  if (problem !== null) throw new RangeError(`figure: ${problem}`);
  return { widthPt, fontPt, em: fontPt, line: Math.max(0.4, fontPt / 14), theme, isLinked };
}

/** Rows and columns of equal square or oblong panels under a common left and bottom margin. */
export function panelGrid(
  count: number,
  sheet: Sheet,
  margins: { left: number; right: number; top: number; bottom: number; between: number },
  leastWidth: number,
  aspect: number,
): { frames: Frame[]; columns: number; heightPt: number; isLastInColumn: (k: number) => boolean } {
  const { left, right, top, bottom, between } = margins;
  const room = sheet.widthPt - left - right;
  const most = Math.max(1, Math.floor((room + between) / (leastWidth + between)));
  const rows = Math.ceil(count / most);
  const columns = Math.max(1, Math.ceil(count / Math.max(1, rows)));
  const width = (room - between * (columns - 1)) / columns;
  const height = width * aspect;
  const pitch = height + top + between * 0.5;
  const frames = Array.from({ length: count }, (_, k) => ({
    left: left + (k % columns) * (width + between),
    top: top + Math.floor(k / columns) * pitch,
    width,
    height,
  }));
  return {
    frames,
    columns,
    heightPt: top + Math.max(0, rows - 1) * pitch + height + bottom,
    isLastInColumn: (k) => k + columns >= count,
  };
}

/** A horizontal axis under the frame; panels that have another panel below them get no labels. */
export function bottomAxis(sheet: Sheet, frame: Frame, scale: Scale, options: AxisOptions): Markup {
  const { em } = sheet;
  const y = frame.top + frame.height;
  const ticks = options.ticks ?? scale.ticks(Math.max(2, Math.floor(frame.width / (5 * em))));
  const write = options.format ?? trueMinus(scale.tickFormat(ticks.length));
  const labelY = y + 0.4 * em + 0.95 * em;
  return element(
    "g",
    {},
    axisLine(sheet, [
      [frame.left, y],
      [frame.left + frame.width, y],
    ]),
    ...ticks.map((tick) =>
      axisLine(sheet, [
        [scale(tick), y],
        [scale(tick), y + 0.3 * em],
      ]),
    ),
    ...(options.isBare
      ? []
      : ticks.map((tick) => textElement(write(tick), scale(tick), labelY, { "text-anchor": "middle" }))),
    options.label === undefined || options.isBare
      ? null
      : textElement(options.label, frame.left + frame.width / 2, labelY + 1.25 * em, { "text-anchor": "middle" }),
  );
}

export interface AxisOptions {
  label?: Label;
  ticks?: readonly number[];
  format?: (value: number) => string;
  /** Ticks without labels. */
  isBare?: boolean;
}

/** A vertical axis at the left of the frame, with its label rotated. */
export function leftAxis(sheet: Sheet, frame: Frame, scale: Scale, options: AxisOptions): Markup {
  const { em } = sheet;
  const x = frame.left;
  const ticks = options.ticks ?? scale.ticks(Math.max(2, Math.floor(frame.height / (2.6 * em))));
  const write = options.format ?? trueMinus(scale.tickFormat(ticks.length));
  const widest = Math.max(0, ...ticks.map((tick) => textWidth(write(tick), em)));
  const middle = frame.top + frame.height / 2;
  const labelX = x - 0.55 * em - widest - 0.6 * em;
  return element(
    "g",
    {},
    axisLine(sheet, [
      [x, frame.top],
      [x, frame.top + frame.height],
    ]),
    ...ticks.map((tick) =>
      axisLine(sheet, [
        [x - 0.3 * em, scale(tick)],
        [x, scale(tick)],
      ]),
    ),
    ...(options.isBare
      ? []
      : ticks.map((tick) =>
          textElement(write(tick), x - 0.55 * em, scale(tick) + 0.33 * em, { "text-anchor": "end" }),
        )),
    options.label === undefined || options.isBare
      ? null
      : textElement(options.label, labelX, middle, {
          "text-anchor": "middle",
          // A single letter reads better upright.
          transform: plain(options.label).length > 1 ? `rotate(-90 ${decimal(labelX)} ${decimal(middle)})` : null,
        }),
  );
}

function axisLine(sheet: Sheet, points: readonly (readonly [number, number])[]): Markup {
  return element("path", { d: pathData(points), fill: "none", stroke: sheet.theme.ink, "stroke-width": sheet.line });
}

/** A true minus sign (U+2212), as d3 writes it, for our own number formats. */
export function trueMinus(format: (value: number) => string): (value: number) => string {
  return (value) => format(value).replace("-", "−");
}

/** Size of panel titles, in em. */
export const TITLE_SIZE = 1.1;

/** Whether a panel's title and remark fit side by side over it. */
export function hasRoomForRemark(sheet: Sheet, width: number, title: Label, remark: Label): boolean {
  return textWidth(title, TITLE_SIZE * sheet.em) + sheet.em + textWidth(remark, sheet.em) <= width;
}

/** Title over a panel, with a remark at its right end. */
export function panelTitle(sheet: Sheet, frame: Frame, title: Label, remark?: Label): Markup {
  const y = frame.top - 0.55 * sheet.em;
  return join([
    textElement(title, frame.left, y, { "font-size": sheet.em * TITLE_SIZE }),
    remark === undefined
      ? null
      : textElement(remark, frame.left + frame.width, y, { "text-anchor": "end", fill: sheet.theme.muted }),
  ]);
}

/** A vertical colour bar with its axis at the right; its label stands above. */
export function colourBar(sheet: Sheet, frame: Frame, colours: ColourScale, label: Label): Markup {
  const { em } = sheet;
  const [low, high] = colours.domain;
  const scale = scaleLinear([low, high], [frame.top + frame.height, frame.top]);
  const steps = 64;
  const ticks = scale.ticks(Math.max(2, Math.floor(frame.height / (2.4 * em))));
  const write = trueMinus(scale.tickFormat(ticks.length));
  const right = frame.left + frame.width;
  const bands = Array.from({ length: steps }, (_, k) => {
    const entry = Math.round((k / (steps - 1)) * (colours.table.length - 1));
    const y = frame.top + frame.height * (1 - (k + 1) / steps);
    // Each band reaches under the one below it, so that no seam shows.
    const height = (frame.height / steps) * (k === 0 ? 1 : 1.5);
    return element("rect", { x: frame.left, y, width: frame.width, height, fill: colours.table[entry] });
  });
  return element(
    "g",
    {},
    element("g", { "shape-rendering": "crispEdges" }, ...bands.reverse()),
    ...ticks.map((tick) =>
      axisLine(sheet, [
        [right, scale(tick)],
        [right + 0.3 * em, scale(tick)],
      ]),
    ),
    ...ticks.map((tick) => textElement(write(tick), right + 0.5 * em, scale(tick) + 0.33 * em)),
    label === "" ? null : textElement(label, frame.left, frame.top - 0.55 * em),
  );
}

/** The distinct marks of maps; every figure made from these maps must show them. */
export function footnotes(
  sheet: Sheet,
  notes: readonly (Label | undefined)[],
  top: number,
): { markup: Markup; heightPt: number } {
  const lines = [...new Set(notes.filter((note) => note !== undefined))].flatMap((note) => wrap(note, sheet));
  const pitch = 1.3 * sheet.em;
  return {
    markup: join(
      lines.map((line, k) => textElement(line, 0.3 * sheet.em, top + pitch * (k + 0.9), { fill: sheet.theme.muted })),
    ),
    heightPt: lines.length === 0 ? 0 : pitch * (lines.length + 0.4),
  };
}

/** Breaks a label at spaces to the width of the sheet. */
function wrap(note: Label, sheet: Sheet): Label[] {
  const words: LabelPart[][] = [[]];
  for (const part of typeof note === "string" ? [note] : note) {
    const [first, ...rest] = typeof part === "string" ? part.split(" ") : [part];
    words[words.length - 1].push(first);
    for (const word of rest) words.push([word]);
  }
  const lines: LabelPart[][] = [];
  for (const word of words) {
    const line = lines.at(-1);
    const longer = line === undefined ? word : [...line, " ", ...word];
    if (line !== undefined && textWidth(longer, sheet.fontPt) <= sheet.widthPt - sheet.em)
      lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines.map(joined);
}

/** Neighbouring plain parts as one; a line of plain text as a text. */
function joined(parts: readonly LabelPart[]): Label {
  const result: LabelPart[] = [];
  for (const part of parts) {
    const last = result.at(-1);
    if (typeof part === "string" && typeof last === "string") result[result.length - 1] = last + part;
    else result.push(part);
  }
  return result.length === 1 && typeof result[0] === "string" ? result[0] : result;
}

/** Room at the left for tick labels of this many letters and a rotated label. */
export function leftMargin(sheet: Sheet, letters: number): number {
  return sheet.em * (0.55 + 0.5 * letters + 1.75);
}

/** Room below for tick labels and an axis label. */
export function bottomMargin(sheet: Sheet): number {
  return 3.1 * sheet.em;
}

/** The document, closed by its footnotes. */
export function finishSheet(
  sheet: Sheet,
  heightPt: number,
  title: string,
  notes: readonly (Label | undefined)[],
  content: readonly Child[],
): string {
  const foot = footnotes(sheet, notes, heightPt);
  const size = { widthPt: sheet.widthPt, heightPt: heightPt + foot.heightPt, fontPt: sheet.fontPt };
  return svgDocument(size, title, sheet.theme, [...content, foot.markup]);
}

/** For linked figures: a line at each step, shown while its step is chosen, under a target that a pointer can hit. */
export function stepTargets(steps: readonly number[], across: Scale, area: Frame): Markup {
  const right = area.left + area.width;
  const middle = (a: number, b: number) => (across(a) + across(b)) / 2;
  const targets = steps.map((step, k) => {
    const from = k === 0 ? area.left : middle(steps[k - 1], step);
    const to = k + 1 === steps.length ? right : middle(step, steps[k + 1]);
    const x = across(step);
    const line = pathData([
      [x, area.top],
      [x, area.top + area.height],
    ]);
    return element(
      "g",
      { class: "step-target", "data-step": String(step) },
      element("path", { class: "step-line", d: line, stroke: "currentColor" }),
      element("rect", { x: from, y: area.top, width: to - from, height: area.height, fill: "transparent" }),
    );
  });
  return element("g", {}, ...targets);
}
