// Reads the drawings that svg.ts writes: the tree of elements, inherited attributes, and the place of every piece of
// text. The PDF is made from it, and tests measure text with it.
import { advanceOf } from "./true-type.ts";

export interface SvgElement {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly (SvgElement | string)[];
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };

/** The characters that the entities of svg.ts stand for. */
export function unescapeText(text: string): string {
  return text.replace(/&([^;]+);/g, (whole, name) => ENTITIES[name] ?? whole);
}

/** @throws Error if the text is not a drawing made by svg.ts */
export function parseSvg(svg: string): SvgElement {
  const root: { children: (SvgElement | string)[] } = { children: [] };
  const open: { name: string; children: (SvgElement | string)[] }[] = [{ name: "", ...root }];
  let end = 0;
  for (const match of svg.trimEnd().matchAll(/<(\/?)([a-z]+)((?: [\w:-]+="[^"]*")*)(\/?)>|[^<]+/g)) {
    const [whole, closes, name, given, isEmpty] = match;
    if (match.index !== end) break;
    end += whole.length;
    const parent = open[open.length - 1];
    if (name === undefined) parent.children.push(unescapeText(whole));
    else if (closes === "/") {
      if (open.pop()?.name !== name) throw new Error(`svg: </${name}> closes another element`);
    } else {
      const pairs = [...given.matchAll(/ ([\w:-]+)="([^"]*)"/g)].map(([, key, value]) => [key, unescapeText(value)]);
      const element = { name, attributes: Object.fromEntries(pairs), children: [] };
      parent.children.push(element);
      if (isEmpty === "") open.push(element);
    }
  }
  const [top] = open[0].children;
  if (end !== svg.trimEnd().length || open.length !== 1 || typeof top === "string" || top?.name !== "svg")
    throw new Error(`svg: cannot be read from character ${end} on`);
  return top;
}

/** Attributes that an element takes from its parent if it has none of its own. */
const INHERITED = new Set([
  ...["fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-linejoin", "stroke-linecap"],
  ...["stroke-dasharray", "font-size", "font-style", "text-anchor"],
]);

export type Style = Readonly<Record<string, string>>;

/** The attributes of an element with those that it inherits. */
export function styleOf(element: SvgElement, inherited: Style): Style {
  const own = Object.entries(element.attributes).filter(([name]) => INHERITED.has(name));
  return { ...inherited, ...Object.fromEntries(own) };
}

/** A piece of text in one face and size; (x, y) is the left end of its baseline before the element is turned. */
export interface TextRun {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly fontPt: number;
  readonly face: "normal" | "italic";
  readonly width: number;
}

export interface PlacedText {
  readonly runs: readonly TextRun[];
  readonly width: number;
  /** Clockwise in degrees, about (x, y). */
  readonly turn: { readonly degrees: number; readonly x: number; readonly y: number } | null;
  readonly style: Style;
}

/** The runs of a text element: as SVG places them, without kerning. */
export function placeText(element: SvgElement, inherited: Style): PlacedText {
  const style = styleOf(element, inherited);
  const size = Number(style["font-size"]);
  const [x, baseline] = [Number(element.attributes.x), Number(element.attributes.y)];
  const pieces: Omit<TextRun, "x">[] = [];
  let y = baseline;
  for (const child of element.children) {
    const attributes = typeof child === "string" ? {} : child.attributes;
    const text = typeof child === "string" ? child : child.children.join("");
    const relative = attributes["font-size"];
    const fontPt = relative === undefined ? size : (size * Number(relative.replace("%", ""))) / 100;
    y += attributes.dy === undefined ? 0 : Number(attributes.dy.replace("em", "")) * fontPt;
    const face = (attributes["font-style"] ?? style["font-style"]) === "italic" ? "italic" : "normal";
    pieces.push({ text, y, fontPt, face, width: fontPt * advanceOf(text, face) });
  }
  const width = pieces.reduce((sum, piece) => sum + piece.width, 0);
  const anchor = style["text-anchor"] ?? "start";
  let left = x - width * (anchor === "middle" ? 0.5 : anchor === "end" ? 1 : 0);
  const runs = pieces.map((piece): TextRun => {
    const run = { ...piece, x: left };
    left += piece.width;
    return run;
  });
  return { runs, width, turn: turnOf(element), style };
}

/** The rotation of an element. @throws Error for another transform */
export function turnOf({ attributes: { transform } }: SvgElement): PlacedText["turn"] {
  if (transform === undefined) return null;
  const numbers = /^rotate\(([-\d.]+) ([-\d.]+) ([-\d.]+)\)$/.exec(transform)?.slice(1).map(Number);
  if (numbers === undefined) throw new Error(`svg: expected rotate(degrees x y), got ${transform}`);
  const [degrees, x, y] = numbers;
  return { degrees, x, y };
}

/** All text of a drawing, piece by piece in its order. */
export function placedTexts(svg: string): PlacedText[] {
  const found: PlacedText[] = [];
  const visit = (element: SvgElement, inherited: Style): void => {
    if (element.name === "text") found.push(placeText(element, inherited));
    else for (const child of element.children) if (typeof child !== "string") visit(child, styleOf(element, inherited));
  };
  visit(parseSvg(svg), {});
  return found;
}
