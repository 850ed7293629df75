// Numbers as the report's script writes them. Every function in this folder is copied into the page by its text
// (../page-script.ts), so it may use nothing outside itself but the other functions of the folder, which it imports.

/** With a true minus sign. */
export function minus(text: string): string {
  return text.replace("-", "−");
}

export function signed(text: string): string {
  return text.startsWith("-") || Number(text) === 0 ? minus(text) : `+${text}`;
}

/** Three significant digits. */
export function significant(value: number): string {
  if (value === 0) return "0";
  const text = value.toPrecision(3);
  return minus(text.includes("e") ? value.toExponential(2) : text);
}

/** Three decimals. */
export function threeDecimals(value: number): string {
  return minus(value.toFixed(3));
}

/** "0.512 ± 0.034"; without the half-width if it is not known. */
export function rewardText(value: number, reach: number | null): string {
  return reach === null ? threeDecimals(value) : `${threeDecimals(value)} ± ${threeDecimals(reach)}`;
}

export function coordinate(value: number): string {
  return signed(String(Number(value.toPrecision(4))));
}
