// KL between all pairs of checkpoints as a matrix: rows are the checkpoints whose completions are scored, columns those that score.
import { bottomMargin, colourBar, finishSheet, leftMargin, sheetOf } from "./axes.ts";
import { colourOf, luminance, sequential } from "./colour.ts";
import { csv, distinct, extentOf } from "./figure-data.ts";
import type { FigureKind } from "./figure-kind.ts";
import { element, textElement } from "./svg.ts";

/** With more checkpoints the squares have no room for numbers. */
const MOST_NUMBERS = 9;

export const pairsKind: FigureKind = {
  name: "pairs",
  shows: "KL between all pairs of checkpoints",
  takes: [],
  isPerSlice: false,
  missing: ({ pairs = [] }) =>
    pairs.length > 0
      ? null
      : "no pairs of checkpoints are measured. The same command as for the run, with --landscape.pairs, adds them",
  draw: ({ pairs = [] }, options) => {
    const { name = "pairs" } = options;
    const steps = distinct(pairs.flatMap(({ from, to }) => [from, to]));
    const logs = pairs.flatMap(({ kl }) => ((kl.value ?? 0) > 0 ? [Math.log10(kl.value ?? 1)] : []));
    const ends = extentOf(logs);
    if (ends === null) throw new RangeError(`${name}: expected a pair of checkpoints whose KL is above 0, got none`);
    const colours = sequential(...ends);
    const sheet = sheetOf(options, 84);
    const { em, theme } = sheet;
    const left = leftMargin(sheet, 3);
    const side = sheet.widthPt - left - 5.5 * em;
    const top = 2.6 * em;
    const cell = side / steps.length;
    const squares = pairs.flatMap(({ from, to, kl }) => {
      const value = kl.value ?? 0;
      const [x, y] = [left + steps.indexOf(to) * cell, top + steps.indexOf(from) * cell];
      const fill = value > 0 ? colourOf(colours, Math.log10(value)) : theme.faint;
      const ink = value > 0 && luminance(fill) < 0.2 ? "#ffffff" : "#1d1f24";
      return [
        element(
          "rect",
          { x, y, width: cell, height: cell, fill },
          element("title", {}, `step ${from} to ${to}: ${value.toPrecision(3)} nats per token`),
        ),
        steps.length > MOST_NUMBERS
          ? null
          : textElement(value.toPrecision(2), x + cell / 2, y + cell / 2 + 0.33 * em, {
              "text-anchor": "middle",
              fill: ink,
            }),
      ];
    });
    const every = Math.max(1, Math.ceil(steps.length / 9));
    const labels = steps.flatMap((step, k) =>
      k % every > 0
        ? []
        : [
            textElement(String(step), left + (k + 0.5) * cell, top + side + 1.3 * em, { "text-anchor": "middle" }),
            textElement(String(step), left - 0.5 * em, top + (k + 0.5) * cell + 0.33 * em, { "text-anchor": "end" }),
          ],
    );
    const [x, y] = [left - 2.6 * em, top + side / 2];
    const title = "KL between all pairs of checkpoints";
    return {
      ...{ name, title },
      svg: finishSheet(
        sheet,
        top + side + bottomMargin(sheet),
        title,
        ["KL(π_row ‖ π_column) per token, nats, on the completions of the row’s checkpoint."],
        [
          ...squares,
          ...labels,
          textElement("under step", left + side / 2, top + side + 2.6 * em, { "text-anchor": "middle" }),
          textElement("completions of step", x, y, { "text-anchor": "middle", transform: `rotate(-90 ${x} ${y})` }),
          colourBar(sheet, { left: left + side + em, top, width: em, height: side }, colours, "log₁₀ KL"),
        ],
      ),
      csv: csv(
        ["from_step", "to_step", "kl_token", "kl_low", "kl_high", "reward_change", "reward_low", "reward_high"],
        pairs.map(({ from, to, kl, gain }) => [
          ...[from, to, kl.value, kl.low, kl.high],
          ...[gain?.value, gain?.low, gain?.high],
        ]),
      ),
    };
  },
};
