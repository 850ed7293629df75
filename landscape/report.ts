// Draws the figures and report.html of a run folder again, from its files alone; needs no GPU.
//
//   node landscape/report.ts RUN
import { reportCommand } from "./report/report.ts";

await reportCommand();
