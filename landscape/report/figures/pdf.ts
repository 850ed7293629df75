// SVG to PDF: vector, with the glyphs of its text embedded, and text that can be selected and searched.
//
// Only what svg.ts draws is known: rectangles, circles, paths of straight lines, and text. Anything else is an error,
// so a figure never loses a part on its way to the PDF. No clock is read: the same figure gives the same bytes.
// Source: ISO 32000-1:2008 (PDF 1.7).
import { createHash } from "node:crypto";
import { deflateSync } from "node:zlib";
import { embeddedFaces, PageFonts } from "./pdf-fonts.ts";
import { parseSvg, placeText, type Style, type SvgElement, styleOf } from "./svg-tree.ts";

/**
 * A page of the drawing's size.
 * @throws Error for a drawing with elements, colours or transforms that svg.ts does not write
 */
export function renderPdf(svg: string, title: string): Uint8Array {
  const root = parseSvg(svg);
  const [, , width, height] = root.attributes.viewBox.split(" ").map(Number);
  const fonts = new PageFonts();
  const page = new PageContent(height, fonts);
  for (const child of root.children) if (typeof child !== "string") page.draw(child, styleOf(root, {}));
  const content = stream(Buffer.from(page.operators.join("\n"), "latin1"));
  const objects: Buffer[] = [];
  const add = (object: string | Buffer): string => {
    objects.push(Buffer.from(object));
    return `${objects.length} 0 R`;
  };
  // The first three objects refer to each other by these numbers.
  const [catalogue, pages, sheet] = [1, 2, 3].map((number) => `${number} 0 R`);
  add(`<< /Type /Catalog /Pages ${pages} /Lang (en) /ViewerPreferences << /DisplayDocTitle true >> >>`);
  add(`<< /Type /Pages /Kids [${sheet}] /Count 1 >>`);
  objects.push(Buffer.alloc(0)); // the page, below
  const drawing = add(content);
  const faces = embeddedFaces(fonts, (object) => add(object), stream);
  const forms = page.circles.map(({ radius, operator, width }, k) => {
    const reach = short(radius + width);
    const entries = `/Type /XObject /Subtype /Form /BBox [-${reach} -${reach} ${reach} ${reach}] `;
    return `/C${k} ${add(stream(Buffer.from(`${circle(radius)} ${operator}`), entries))}`;
  });
  const states = page.alphas.map(([fill, line], k) => `/G${k} << /ca ${fill} /CA ${line} >>`);
  objects[2] = Buffer.from(
    `<< /Type /Page /Parent ${pages} /MediaBox [0 0 ${width} ${height}] /Contents ${drawing} ` +
      `/Resources << /Font << ${faces.join(" ")} >> /ExtGState << ${states.join(" ")} >> ` +
      `/XObject << ${forms.join(" ")} >> >> >>`,
  );
  const info = add(`<< /Title ${unicode(title)} /Creator (foothold) >>`);
  return fileOf(objects, catalogue, info);
}

/** A compressed stream object. */
function stream(bytes: Uint8Array, entries = ""): Buffer {
  const packed = deflateSync(bytes, { level: 9 });
  const head = `<< /Length ${packed.length} /Filter /FlateDecode ${entries}>>\nstream\n`;
  return Buffer.concat([Buffer.from(head), packed, Buffer.from("\nendstream")]);
}

/** A text string in UTF-16. */
export function unicode(text: string): string {
  return `<FEFF${Buffer.from(text, "utf16le").swap16().toString("hex").toUpperCase()}>`;
}

/** Header, objects, table of their places, trailer. */
function fileOf(objects: readonly Buffer[], catalogue: string, info: string): Uint8Array {
  // The second line tells programs that the file is binary.
  const parts: Buffer[] = [Buffer.from("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "latin1")];
  let length = parts[0].length;
  const places = objects.map((object, k) => {
    const at = length;
    const part = Buffer.concat([Buffer.from(`${k + 1} 0 obj\n`), object, Buffer.from("\nendobj\n")]);
    parts.push(part);
    length += part.length;
    return at;
  });
  const digest = createHash("md5").update(Buffer.concat(parts)).digest("hex").toUpperCase();
  const rows = places.map((at) => `${String(at).padStart(10, "0")} 00000 n \n`);
  parts.push(
    Buffer.from(
      `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${rows.join("")}trailer\n` +
        `<< /Size ${objects.length + 1} /Root ${catalogue} /Info ${info} /ID [<${digest}> <${digest}>] >>\n` +
        `startxref\n${length}\n%%EOF\n`,
    ),
  );
  return Buffer.concat(parts);
}

const short = (value: number): string => String(Math.round(value * 1000) / 1000 + 0);

/** The operators of a page. The state that an operator would set again is not repeated. */
class PageContent {
  readonly operators: string[];
  /** Opacities of fill and stroke; entry k is the graphics state Gk. */
  readonly alphas: (readonly [string, string])[] = [];
  /** Circles about the origin; entry k is the form Ck. It takes colours and pen from the page. */
  readonly circles: { readonly radius: number; readonly operator: string; readonly width: number }[] = [];
  readonly #fonts: PageFonts;
  readonly #state = new Map<string, string>();

  constructor(height: number, fonts: PageFonts) {
    this.operators = [`1 0 0 -1 0 ${short(height)} cm`];
    this.#fonts = fonts;
  }

  draw(element: SvgElement, inherited: Style): void {
    const style = styleOf(element, inherited);
    switch (element.name) {
      case "g":
        for (const child of element.children) if (typeof child !== "string") this.draw(child, style);
        return;
      case "text":
        this.#text(element, inherited);
        return;
      case "rect":
      case "circle":
      case "path": {
        const isFilled = this.#paint(style, "fill");
        const isStroked = this.#paint(style, "stroke");
        if (!isFilled && !isStroked) return;
        this.#alpha(style);
        const operator = isFilled && isStroked ? "B" : isFilled ? "f" : "S";
        if (element.name === "circle") this.#circle(element, operator, style);
        else this.operators.push(outlineOf(element), operator);
        return;
      }
      default:
        throw new Error(`pdf: expected g, rect, circle, path or text, got <${element.name}>`);
    }
  }

  #set(name: string, operator: string): void {
    if (this.#state.get(name) === operator) return;
    this.#state.set(name, operator);
    this.operators.push(operator);
  }

  /** Sets the colour of fill or stroke, and the pen. @returns whether there is any */
  #paint(style: Style, of: "fill" | "stroke"): boolean {
    const colour = style[of] ?? (of === "fill" ? "#000000" : "none");
    if (colour === "none" || colour === "transparent") return false;
    const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/.exec(colour);
    if (hex === null) throw new Error(`pdf: expected a colour #rrggbb, got ${colour}`);
    const channels = hex.slice(1).map((channel) => short(Number.parseInt(channel, 16) / 255));
    this.#set(of, `${channels.join(" ")} ${of === "fill" ? "rg" : "RG"}`);
    if (of === "fill") return true;
    const width = Number(style["stroke-width"] ?? 1);
    this.#set("width", `${short(width)} w`);
    this.#set("join", `${["miter", "round", "bevel"].indexOf(style["stroke-linejoin"] ?? "miter")} j`);
    this.#set("cap", `${["butt", "round", "square"].indexOf(style["stroke-linecap"] ?? "butt")} J`);
    this.#set("dash", `[${style["stroke-dasharray"] ?? ""}] 0 d`);
    return width > 0;
  }

  #alpha(style: Style): void {
    const pair = [style["fill-opacity"] ?? "1", style["stroke-opacity"] ?? "1"] as const;
    let k = this.alphas.findIndex(([fill, line]) => fill === pair[0] && line === pair[1]);
    if (k === -1) k = this.alphas.push(pair) - 1;
    this.#set("alpha", `/G${k} gs`);
  }

  /** Figures have many circles of few sizes: each size is stored once and placed. */
  #circle({ attributes }: SvgElement, operator: string, style: Style): void {
    const radius = Number(attributes.r);
    const width = operator === "f" ? 0 : Number(style["stroke-width"] ?? 1);
    let k = this.circles.findIndex((one) => one.radius === radius && one.operator === operator && one.width >= width);
    if (k === -1) k = this.circles.push({ radius, operator, width }) - 1;
    this.operators.push(`q 1 0 0 1 ${attributes.cx} ${attributes.cy} cm /C${k} Do Q`);
  }

  #text(element: SvgElement, inherited: Style): void {
    const { runs, turn, style } = placeText(element, inherited);
    const angle = ((turn?.degrees ?? 0) * Math.PI) / 180;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const show = (mode: number): void => {
      this.operators.push("BT", `${mode} Tr`);
      for (const { text, x, y, fontPt, face } of runs) {
        if (text === "") continue;
        const [dx, dy] = [x - (turn?.x ?? 0), y - (turn?.y ?? 0)];
        const at = [(turn?.x ?? 0) + cos * dx - sin * dy, (turn?.y ?? 0) + sin * dx + cos * dy];
        // Letters stand upright although the page's y axis points down.
        const matrix = [cos, sin, sin, -cos, ...at].map(short).join(" ");
        this.operators.push(`/${face === "italic" ? "I" : "N"} ${short(fontPt)} Tf ${matrix} Tm`);
        const { glyphs, isReadable } = this.#fonts.use(text, face);
        const shown = `<${glyphs}> Tj`;
        this.operators.push(isReadable || mode !== 0 ? shown : marked(text, shown));
      }
      this.operators.push("ET");
    };
    if (style.stroke !== undefined && style.stroke !== "none") {
      if (element.attributes["paint-order"] !== "stroke")
        throw new Error('pdf: expected paint-order="stroke" for text with a stroke');
      this.#paint(style, "stroke");
      this.#alpha(style);
      // The halo under the letters: no text of its own.
      this.operators.push("/Span << /ActualText () >> BDC");
      show(1);
      this.operators.push("EMC");
    }
    if (this.#paint(style, "fill")) {
      this.#alpha(style);
      show(0);
    }
  }
}

/** Operators that stand for another text than their glyphs would say. */
const marked = (text: string, operators: string): string =>
  `/Span << /ActualText ${unicode(text)} >> BDC ${operators} EMC`;

/** The path of a rectangle or of straight lines. */
function outlineOf({ name, attributes }: SvgElement): string {
  if (name === "rect") return `${["x", "y", "width", "height"].map((key) => attributes[key] ?? "0").join(" ")} re`;
  const { d } = attributes;
  if (!/^(M[-\d.]+ [-\d.]+|L[-\d.]+ [-\d.]+|Z)*$/.test(d))
    throw new Error(`pdf: expected a path of M, L and Z, got ${d}`);
  const names = { M: "m", L: "l", Z: "h" } as const;
  return [...d.matchAll(/([MLZ])([^MLZ]*)/g)]
    .map(([, command, place]) => `${place} ${names[command as keyof typeof names]}`.trim())
    .join(" ");
}

/** A circle about the origin as four cubic arcs; their radius is off by at most 0.03%. */
function circle(r: number): string {
  const k = (4 / 3) * (Math.SQRT2 - 1) * r;
  const arc = (...numbers: number[]) => `${numbers.map(short).join(" ")} c`;
  return [
    `${short(r)} 0 m`,
    arc(r, k, k, r, 0, r),
    arc(-k, r, -r, k, -r, 0),
    arc(-r, -k, -k, -r, 0, -r),
    arc(k, -r, r, -k, r, 0),
    "h",
  ].join(" ");
}
