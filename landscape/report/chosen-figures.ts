// Single figures of a run at a chosen size, for a paper: SVG, PDF, PNG, and the numbers in each as CSV.
import { join } from "node:path";
import { ensureFolder, nearestNames, settingsError, UserError, writeAtomic } from "../../engine/host/index.ts";
import { sizeProblem } from "./figures/axes.ts";
import { embedFonts } from "./figures/embedded-fonts.ts";
import { distinct, type Figure, type Quantity, type Study } from "./figures/figure-data.ts";
import { type FigureChoice, type FigureKind, measuredMaps } from "./figures/figure-kind.ts";
import { renderPdf } from "./figures/pdf.ts";
import { MOST_PIXELS, pixelsOf, renderPng } from "./figures/png.ts";
import { FIGURES, figuresOf } from "./figures/study-figures.ts";
import { svgWidthMm } from "./figures/svg.ts";

/** What the command line says about single figures. */
export interface ChosenFigures {
  readonly figure: readonly string[];
  /** As typed: "84mm"; empty: the default of each figure. */
  readonly width: string;
  readonly "font-size": number;
  readonly dpi: number;
  readonly step: readonly number[];
  readonly slice: readonly number[];
  readonly quantity: Quantity;
  readonly "shared-colours": boolean;
}

const CHOICES: readonly FigureChoice[] = ["step", "slice", "quantity", "shared-colours"];
const MM: Readonly<Record<string, number>> = { mm: 1, cm: 10, in: 25.4, pt: 25.4 / 72 };

/** A length in millimetres, null if it is none. Without a unit it is in millimetres. */
export function lengthMm(typed: string): number | null {
  const found = /^(\d+(?:\.\d+)?)\s*(mm|cm|in|pt)?$/.exec(typed.trim());
  return found === null ? null : Number(found[1]) * MM[found[2] ?? "mm"];
}

/** Every figure and what it shows, a line each. */
export function figureList(): string {
  const width = Math.max(...FIGURES.map(({ name }) => name.length));
  return FIGURES.map(({ name, shows, takes }) => {
    const flags = takes.length === 0 ? "" : ` (${takes.map((flag) => `--${flag}`).join(", ")})`;
    return `${name.padEnd(width)}  ${shows}${flags}\n`;
  }).join("");
}

/** The kinds asked for. @throws SettingsError for a name that no figure has */
function kindsOf(names: readonly string[]): readonly FigureKind[] {
  if (names.includes("all")) return FIGURES;
  return names.map((name) => {
    const kind = FIGURES.find((one) => one.name === name);
    if (kind === undefined) throw settingsError([unknownFigure(name)]);
    return kind;
  });
}

function unknownFigure(name: string): string {
  const [nearest] = nearestNames(
    name,
    FIGURES.map((one) => one.name),
  );
  const hint = nearest === undefined ? "" : ` Did you mean ${nearest}?`;
  return `--figure: there is no figure ${JSON.stringify(name)}.${hint} The figures are:\n${figureList().trimEnd()}`;
}

/**
 * What is wrong with the flags, before a run is read.
 * @param given  the flags that were typed
 */
export function figureProblems(chosen: ChosenFigures, given: ReadonlySet<string>): string[] {
  const { figure, width, "font-size": fontPt, dpi } = chosen;
  const unknown = figure.filter((name) => name !== "all" && !FIGURES.some((kind) => kind.name === name));
  if (unknown.length > 0) return unknown.map(unknownFigure);
  const problems: string[] = [];
  const kinds = kindsOf(figure);
  for (const flag of CHOICES)
    if (given.has(flag) && !kinds.some(({ takes }) => takes.includes(flag))) {
      const takers = FIGURES.filter(({ takes }) => takes.includes(flag)).map(({ name }) => name);
      problems.push(`--${flag}: has no effect on ${figure.join(", ")}. It applies to ${takers.join(", ")}.`);
    }
  const widthMm = width === "" ? 84 : lengthMm(width);
  if (widthMm === null)
    problems.push(`--width: expected a length such as 84mm, 8.4cm, 3.3in or 240pt, got ${JSON.stringify(width)}`);
  else {
    const problem = sizeProblem(widthMm, fontPt);
    if (problem !== null) problems.push(`--width, --font-size: ${problem}`);
    else if (pixelsOf(widthMm, dpi) > MOST_PIXELS)
      problems.push(
        `--dpi: ${widthMm} mm at ${dpi} dots per inch are ${pixelsOf(widthMm, dpi)} pixels, at most ${MOST_PIXELS} can be ` +
          "drawn. Lower --dpi; SVG and PDF have no pixels.",
      );
  }
  return problems;
}

/**
 * The figures asked for, of the checkpoints and slices asked for.
 * @throws UserError when a checkpoint or slice is not measured, or the run lacks what a figure needs: it says what, and how
 *         to get it
 */
export function drawFigures(study: Study, chosen: ChosenFigures, given: ReadonlySet<string>): Figure[] {
  const { figure, width, "font-size": fontPt, step, slice, quantity } = chosen;
  const all = measuredMaps(study);
  const part = all.length === 0 ? study : partOf(study, step, slice);
  const ofQuantity = given.has("quantity") ? quantity : undefined;
  const suffix = (kind: FigureKind): string =>
    [
      kind.takes.includes("quantity") && ofQuantity !== undefined ? `-${ofQuantity}` : "",
      kind.takes.includes("step") && step.length > 0 ? `-step-${step.join("-")}` : "",
      kind.takes.includes("slice") && slice.length === 1 && distinct(all.map((map) => map.slice)).length > 1
        ? `-slice-${slice[0]}`
        : "",
    ].join("");
  const isAll = figure.includes("all");
  const figures = kindsOf(figure).flatMap((kind) => {
    const named = { suffix: suffix(kind), quantity: ofQuantity };
    const missing = kind.missing(part, ofQuantity);
    if (missing !== null && !isAll) throw new UserError(`--figure ${kind.name}: ${missing}.`);
    return figuresOf(kind, part, named).map(([, draw]) =>
      draw({
        fontPt,
        ...(width !== "" && { widthMm: lengthMm(width) ?? undefined }),
        ...(chosen["shared-colours"] && { over: all }),
      }),
    );
  });
  if (figures.length === 0)
    throw new UserError(
      "--figure all: nothing is measured yet. node landscape/run.ts measures landscapes, and node rl/train.ts trains.",
    );
  return figures;
}

/** The study with these checkpoints and slices only; empty: all. Means over slices go if slices are chosen. */
function partOf(study: Study, steps: readonly number[], slices: readonly number[]): Study {
  const maps = measuredMaps(study);
  const problems = [
    ...absent("step", "checkpoint", steps, distinct(maps.map(({ step }) => step))),
    ...absent("slice", "slice", slices, distinct(maps.map(({ slice }) => slice))),
  ];
  if (problems.length > 0) throw settingsError(problems);
  const isChosen = (list: readonly number[], value: number): boolean => list.length === 0 || list.includes(value);
  const kept = maps.filter(({ step, slice }) => isChosen(steps, step) && isChosen(slices, slice));
  if (kept.length === 0)
    throw settingsError([`--step, --slice: step ${steps.join(", ")} is not measured in slice ${slices.join(", ")}`]);
  return {
    ...study,
    maps: kept,
    sliceMeans: slices.length > 0 ? [] : (study.sliceMeans ?? []).filter(({ step }) => isChosen(steps, step)),
  };
}

function absent(flag: string, what: string, wanted: readonly number[], measured: readonly number[]): string[] {
  return wanted
    .filter((value) => !measured.includes(value))
    .map((value) => `--${flag}: ${what} ${value} has no landscape in this run; measured: ${measured.join(", ")}`);
}

/** Writes NAME.svg, .pdf, .png and .csv of each figure. @returns the paths */
export async function writeFigures(folder: string, figures: readonly Figure[], dpi: number): Promise<string[]> {
  // Everything is drawn before anything is written.
  const files = await Promise.all(
    figures.map(
      async ({ name, title, svg, csv }): Promise<(readonly [string, string | Uint8Array])[]> => [
        [`${name}.svg`, embedFonts(svg)],
        [`${name}.pdf`, renderPdf(svg, title)],
        [`${name}.png`, await renderPng(svg, pixelsOf(svgWidthMm(svg), dpi))],
        [`${name}.csv`, csv],
      ],
    ),
  );
  ensureFolder(folder);
  return files.flat().map(([name, content]) => {
    const path = join(folder, name);
    writeAtomic(path, content);
    return path;
  });
}
