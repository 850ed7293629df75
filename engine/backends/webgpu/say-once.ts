// Remarks on what an adapter lost. They are printed when the adapter is opened, which a test or a benchmark may do many
// times in one process.
const said = new Set<string>();

/** Prints a line on standard error, unless this process has printed it before. */
export function sayOnce(line: string): void {
  if (said.has(line)) return;
  said.add(line);
  process.stderr.write(`${line}\n`);
}
