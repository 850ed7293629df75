// The noise floor in figure and page: the draws and cells that it is given, and nothing where it was not measured.
import * as assert from "uvu/assert";
import { noiseFloorFigure, noiseFloorKind } from "../../../landscape/report/figures/noise-floor.ts";
import { renderReport } from "../../../landscape/report/page.ts";
import { noiseFloorSentences } from "../../../landscape/report/page-explorer.ts";
import { noiseFloorOf, outsideFloor } from "../../../landscape/statistics/noise-floor.ts";
import { describe } from "../../support.ts";
import { syntheticStudy } from "../synthetic-study.ts";

describe("landscape/report/noise-floor", (test) => {
  const bare = syntheticStudy([0, 5], [0]);
  const floor = noiseFloorOf([0.1, 0.12, 0.11, 0.09]);
  const drawn = ({ value, low, high }: { value: number | null; low: number | null; high: number | null }) =>
    value === null ? null : { value, low, high };
  const maps = bare.maps.map((map) => {
    if (map.step !== 5) return map;
    const rewards = map.points.filter(({ alpha, beta }) => alpha !== 0 || beta !== 0).map(({ reward }) => reward);
    const outside = outsideFloor(floor, rewards);
    return {
      ...map,
      noiseFloor: {
        ...{ draws: floor.draws, range: floor.range, mean: drawn(floor.mean), deviation: drawn(floor.deviation) },
        ...outside,
      },
    };
  });

  test("the figure has every draw and cell of the maps with a floor, within its frame", () => {
    const { csv, svg } = noiseFloorFigure(maps);
    const rows = csv.trimEnd().split("\n").slice(1);
    assert.equal(
      rows.filter((row) => row.includes(",draw,")),
      floor.draws.map((reward) => `5,0,draw,${reward}`),
    );
    assert.is(rows.filter((row) => /,cell,|,checkpoint,/.test(row)).length, maps[1].points.length);
    assert.not.ok(rows.some((row) => row.startsWith("0,")));
    const bars = [...svg.matchAll(/<title>(\d+) cells<\/title>/g)].reduce((sum, [, count]) => sum + Number(count), 0);
    assert.is(bars, maps[1].points.length);
    assert.match(noiseFloorKind.missing(bare) ?? "", "--landscape.noiseFloor 20");
    assert.is(noiseFloorKind.missing({ ...bare, maps }), null);
  });

  test("the page says how many cells lie outside, and what was not measured", () => {
    const { noiseFloor } = maps[1] as (typeof maps)[number] & { noiseFloor: { below: number; above: number } };
    const said = noiseFloorSentences(maps[1]);
    assert.match(said, `(${noiseFloor.below} below and ${noiseFloor.above} above, of 48)`);
    assert.match(said, "4 other noise seeds, on the same prompts: mean reward 0.105 [");
    const page = renderReport({ ...bare, maps });
    assert.ok(page.includes(said) && page.includes("The noise floor of this checkpoint was not measured."));
    assert.not.match(renderReport(bare), "What rollout noise alone gives");
  });
});
