// The selection as the page's address writes it: #step=20&slice=1&show=reward&cell=3,5
import type { Quantity } from "../../figure-data.ts";
import type { PageData } from "../page-data.ts";

export interface Selection {
  step: number;
  slice: number;
  quantity: Quantity;
  hasOwnColours: boolean;
  /** The chosen cell; NaN: the checkpoint. */
  cell: { i: number; j: number };
}

export function addressOf({ step, slice, quantity, hasOwnColours, cell: { i, j } }: Selection): string {
  const cell = Number.isNaN(i) ? "" : `&cell=${i},${j}`;
  return `#step=${step}&slice=${slice}&show=${quantity}${hasOwnColours ? "&colours=own" : ""}${cell}`;
}

/** Changes what the address names; what it does not name, or what the study does not have, stays. */
export function readAddress(address: string, data: PageData, selection: Selection): void {
  const wanted = new URLSearchParams(address.slice(1));
  const number = (name: string) => Number(wanted.get(name) ?? Number.NaN);
  if (data.steps.includes(number("step"))) selection.step = number("step");
  if (data.slices.includes(number("slice"))) selection.slice = number("slice");
  const show = wanted.get("show");
  if (show === "reward" || show === "kl" || show === "objective") selection.quantity = show;
  if (wanted.has("colours")) selection.hasOwnColours = wanted.get("colours") === "own";
  const cell = wanted.get("cell")?.split(",").map(Number);
  if (cell?.length === 2 && cell.every(Number.isInteger)) selection.cell = { i: cell[0], j: cell[1] };
}
