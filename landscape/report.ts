// Draws the figures and report.html of a run folder again, from its files alone; needs no GPU.
//
//   node landscape/report.ts RUN
//   node landscape/report.ts RUN --figure reward-map --width 84mm --font-size 8     one figure, at the size of a paper
import { reportCommand } from "./report/report-command.ts";

await reportCommand();
