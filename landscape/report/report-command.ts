// `node landscape/report.ts`: figures and report of a run again, or single figures at a chosen size.
import {
  boolean,
  choice,
  defineSettings,
  integer,
  integers,
  lockFolder,
  number,
  runCommand,
  settingsError,
  text,
  texts,
} from "../../engine/host/index.ts";
import { figuresFolder, reportPath } from "../files/layout.ts";
import { readRunSettings } from "../files/run-settings.ts";
import { computeTrajectory } from "../weights/trajectory-plane.ts";
import { drawFigures, figureList, figureProblems, writeFigures } from "./chosen-figures.ts";
import { DEFAULT_FONT_PT } from "./figures/axes.ts";
import { QUANTITIES } from "./figures/figure-data.ts";
import { trajectoryKind } from "./figures/trajectory.ts";
import { redraw, studyOf, summariseRun } from "./report.ts";

const settings = defineSettings({
  figure: texts({
    default: [],
    meaning:
      "figures to draw, at the size given by the flags below, in place of report and figures; list prints their names, all draws every one",
  }),
  width: text({
    default: "",
    meaning: 'width: "84mm", "8.4cm", "3.3in", "240pt"; default: 84 mm, or 174 mm for several panels',
  }),
  "font-size": number({
    default: DEFAULT_FONT_PT,
    min: 3,
    max: 40,
    unit: "pt",
    meaning: "size of tick labels; the other sizes follow",
  }),
  dpi: integer({ default: 300, min: 30, max: 2400, meaning: "dots per inch of the PNG" }),
  step: integers({ default: [], min: 0, meaning: "checkpoints to show; default: all that are measured" }),
  slice: integers({ default: [], min: 0, meaning: "slices to show; default: all, a figure for each" }),
  quantity: choice({ default: "reward", options: QUANTITIES, meaning: "what the height of a surface shows" }),
  "shared-colours": boolean({
    default: false,
    meaning:
      "colours, isoline levels and axes are those of all checkpoints and slices of the run, also of those not shown",
  }),
  out: text({ default: "", meaning: "the folder for the figures; default: RUN/figures/paper" }),
});

export function reportCommand(): Promise<never> {
  return runCommand({
    name: "node landscape/report.ts",
    summary: "Draws the figures and report.html of a run folder again, from its files alone.",
    settings,
    positional: [{ name: "RUN", meaning: "the run folder" }],
    examples: [
      ["node landscape/report.ts runs/tiny", "writes runs/tiny/report.html and runs/tiny/figures"],
      ["node landscape/report.ts runs/tiny --figure reward-map --width 84mm --font-size 8", "one figure for a paper"],
      ["node landscape/report.ts --figure list", "names of figures"],
    ],
    main: async ({ values, given, positionals: [folder], progress, signal }) => {
      const { figure, out } = values;
      if (figure.includes("list")) {
        process.stdout.write(figureList());
        return;
      }
      const problems = folder === undefined ? ["RUN is missing: the run folder; --help tells more"] : [];
      if (figure.length === 0)
        for (const flag of given)
          if (flag !== "figure") problems.push(`--${flag}: applies to single figures only; name one with --figure`);
      problems.push(...(figure.length === 0 ? [] : figureProblems(values, given)));
      if (problems.length > 0 || folder === undefined) throw settingsError(problems);
      const say = (message: string): void => progress.line(message);
      if (figure.length === 0) {
        process.stdout.write(await redraw(folder, say, signal));
        progress.line(`Report: ${reportPath(folder)}`);
        return;
      }
      const ofRun = await readRunSettings(folder);
      const release = lockFolder(folder);
      try {
        if (figure.includes(trajectoryKind.name)) await computeTrajectory(folder, ofRun, progress, signal);
        const study = studyOf(folder, ofRun, await summariseRun(folder, ofRun, say, signal));
        const drawn = drawFigures(study, values, given);
        const place = out === "" ? `${figuresFolder(folder)}/paper` : out;
        for (const path of await writeFigures(place, drawn, values.dpi)) process.stdout.write(`${path}\n`);
      } finally {
        release();
      }
    },
  });
}
