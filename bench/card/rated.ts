// What follows from all rows together: the ceilings, each row's share of its ceiling, and the table.
import type { CardCeilings, CardReport, RatedRow, Row } from "./results.ts";

interface Rates {
  gflopsPerSecond: number | null;
  gigabytesPerSecond: number | null;
}

function ratesOf({ flops, bytes, milliseconds }: Row): Rates {
  const rate = (amount: number): number | null =>
    milliseconds === null || amount === 0 ? null : amount / milliseconds / 1e6;
  return { gflopsPerSecond: rate(flops), gigabytesPerSecond: rate(bytes) };
}

const isProduct = ({ part, name }: Row): boolean =>
  part === "products" || (part === "ceilings" && !name.startsWith("copy"));
/** Whether a row's products have f16 operands. */
const isHalf = ({ name }: Row): boolean => / (f16|mixed) /.test(name);

/** The best measured copy and the best measured products. */
export function ceilingsOf(rows: readonly Row[]): CardCeilings {
  const best = (isOne: (row: Row) => boolean, rate: (row: Row) => number | null): CardCeilings["copy"] => {
    let found: CardCeilings["copy"] = null;
    for (const row of rows.filter((one) => one.outcome === "measured" && isOne(one))) {
      const own = rate(row);
      if (own !== null && (found === null || own > found.rate)) found = { rate: own, of: row.name };
    }
    return found;
  };
  const flops = (row: Row): number | null => ratesOf(row).gflopsPerSecond;
  return {
    copy: best(
      ({ part, name }) => part === "ceilings" && name.startsWith("copy"),
      (row) => ratesOf(row).gigabytesPerSecond,
    ),
    f32: best((row) => isProduct(row) && !isHalf(row), flops),
    f16: best((row) => isProduct(row) && isHalf(row), flops),
  };
}

/** The larger of a row's shares, of the copy's rate and of the products' in its precision. */
function shareOf(row: Row, { gflopsPerSecond, gigabytesPerSecond }: Rates, ceilings: CardCeilings): RatedRow["share"] {
  const products = isHalf(row) ? ceilings.f16 : ceilings.f32;
  const ofCopy = ceilings.copy === null || gigabytesPerSecond === null ? null : gigabytesPerSecond / ceilings.copy.rate;
  const ofProducts = products === null || gflopsPerSecond === null ? null : gflopsPerSecond / products.rate;
  if (ofCopy === null && ofProducts === null) return null;
  return (ofProducts ?? 0) >= (ofCopy ?? 0)
    ? { share: ofProducts ?? 0, of: isHalf(row) ? "f16 products" : "f32 products" }
    : { share: ofCopy ?? 0, of: "copy" };
}

/** @param peers  milliseconds of the same work in PyTorch, by the row's name */
export function rated(rows: readonly Row[], ceilings: CardCeilings, peers: ReadonlyMap<string, number>): RatedRow[] {
  return rows.map((row) => {
    const rates = ratesOf(row);
    const { milliseconds, tokens } = row;
    return {
      ...row,
      ...rates,
      tokensPerSecond: milliseconds === null || tokens === 0 ? null : (1000 * tokens) / milliseconds,
      share: shareOf(row, rates, ceilings),
      peerMilliseconds: peers.get(row.name) ?? null,
    };
  });
}

export function duration(milliseconds: number): string {
  if (milliseconds < 1) return `${(1000 * milliseconds).toPrecision(3)} µs`;
  return milliseconds < 1000 ? `${milliseconds.toPrecision(3)} ms` : `${(milliseconds / 1000).toPrecision(3)} s`;
}

function quantity(value: number, unit: string): string {
  return `${value >= 1000 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;
}

/** "3.14 TFLOP/s", "812 GB/s", "5120 tokens/s": what a row is best known by. */
export function rateText({ tokensPerSecond, gflopsPerSecond, gigabytesPerSecond, share }: RatedRow): string {
  if (tokensPerSecond !== null) return quantity(tokensPerSecond, "tokens/s");
  if (share?.of === "copy" && gigabytesPerSecond !== null) return quantity(gigabytesPerSecond, "GB/s");
  if (gflopsPerSecond !== null && gflopsPerSecond >= 1000) return quantity(gflopsPerSecond / 1000, "TFLOP/s");
  if (gflopsPerSecond !== null) return quantity(gflopsPerSecond, "GFLOP/s");
  return gigabytesPerSecond === null ? "" : quantity(gigabytesPerSecond, "GB/s");
}

/** The table in Markdown, with a heading row per part. A row without a number says why. */
export function tableLines({ rows, peers }: Pick<CardReport, "rows" | "peers">): string[] {
  const heads = [
    "case",
    "time",
    "rate",
    "share of its ceiling",
    ...(peers === null ? [] : ["PyTorch", "PyTorch ÷ ours"]),
    "checked",
  ];
  const lines: string[][] = [heads];
  let last = "";
  for (const row of rows) {
    if (row.part !== last) lines.push([`*${row.part}*`, ...heads.slice(1).map(() => "")]);
    last = row.part;
    const { milliseconds, share, peerMilliseconds: theirs } = row;
    const beside =
      peers === null
        ? []
        : theirs === null
          ? ["", ""]
          : [duration(theirs), milliseconds === null ? "" : (theirs / milliseconds).toFixed(2)];
    if (milliseconds === null) {
      lines.push([
        row.name,
        row.outcome === "failed" ? "FAILED" : "left out",
        "",
        "",
        ...beside,
        (row.reason ?? "").replaceAll("|", "/"),
      ]);
      continue;
    }
    const shown = share === null ? "" : `${(100 * share.share).toFixed(0)}% of ${share.of}`;
    const checked = [row.checked, row.note].filter((text) => text !== null).join("; ");
    lines.push([row.name, duration(milliseconds), rateText(row), shown, ...beside, checked]);
  }
  const isNumber = (column: number): boolean => column > 0 && column < heads.length - 1;
  // The last column is long and not padded.
  const widths = heads.map((_, column) =>
    column === heads.length - 1 ? 0 : Math.max(3, ...lines.map((cells) => cells[column].length)),
  );
  const text = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (isNumber(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join(" | ")} |`;
  const rule = `|${widths.map((width, i) => (isNumber(i) ? `${"-".repeat(width + 1)}:` : "-".repeat(width + 2))).join("|")}|`;
  const [first, ...rest] = lines;
  return [text(first), rule, ...rest.map(text)];
}
