// Ends the process at a chosen point, so that tests can prove that a run survives it.
//
// FOOTHOLD_KILL_AT=NAME:COUNT makes the COUNT-th call of killPoint("NAME") end the process as kill -9 would: no
// handler, no finally, no flush. Without the variable a kill point costs one comparison.
import { UserError } from "./errors.ts";

let wanted: { name: string; count: number } | null | undefined;
let calls = 0;

function parse(text: string | undefined): { name: string; count: number } | null {
  if (!text) return null;
  const match = /^(.+):([1-9]\d*)$/.exec(text);
  if (!match)
    throw new UserError(
      `FOOTHOLD_KILL_AT: expected NAME:COUNT with COUNT from 1, got "${text}". Unset it to run undisturbed.`,
    );
  return { name: match[1], count: Number(match[2]) };
}

/**
 * Kills the process if FOOTHOLD_KILL_AT says so.
 * @param leave  called just before the kill, to leave behind what an interrupted write would
 */
export function killPoint(name: string, leave?: () => void): void {
  if (wanted === undefined) wanted = parse(process.env["FOOTHOLD_KILL_AT"]);
  if (wanted?.name !== name || ++calls !== wanted.count) return;
  leave?.();
  process.kill(process.pid, "SIGKILL");
  for (;;); // a signal may take a moment to arrive; nothing may happen until then
}
