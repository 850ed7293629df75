// Writes the measured maps of a run folder for NumPy, ParaView or any program; needs no GPU.
//
//   node landscape/export.ts RUN --format npz
import { exportCommand } from "./report/export.ts";

await exportCommand();
