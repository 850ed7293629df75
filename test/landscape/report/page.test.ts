// The report page, on a synthetic study: what it shows, and that no name in it can break out of its place.
import { createHash } from "node:crypto";
import { inflateRawSync } from "node:zlib";
import * as assert from "uvu/assert";
import type { Study } from "../../../landscape/report/figures/figure-data.ts";
import type { PageConversations, PageData } from "../../../landscape/report/figures/page/page-data.ts";
import { compareConversations } from "../../../landscape/report/first-difference.ts";
import { renderReport } from "../../../landscape/report/page.ts";
import { describe } from "../../support.ts";
import { seeded, syntheticMap, syntheticStudy } from "../synthetic-study.ts";

const scriptsOf = (html: string) =>
  [...html.matchAll(/<script([^>]*)>([\s\S]*?)<\/script>/g)].map(([, attributes, content]) => ({
    attributes,
    content,
  }));

describe("landscape/report/page", (test) => {
  const hostile = `</script><script>alert(1)</script><!-- <b onclick="x">'&amp;\u0000\u202e\u2028\ud800`;
  const base = syntheticStudy([0, 5, 10], [0, 1]);
  const study: Study = {
    ...base,
    name: hostile,
    notes: [hostile],
    settings: [{ key: hostile, value: hostile }],
    maps: base.maps.map((map) => ({
      ...map,
      mark: hostile,
      summary: {
        ...map.summary,
        r: map.step === 0 ? null : map.summary.r,
        rInfinity: map.step === 0 ? null : map.summary.rInfinity,
        determined: {
          r: {
            isDetermined: map.step !== 0,
            rollouts: { used: 64, needed: 97, isLowerBound: false },
            reference: { used: 32, needed: 20, isLowerBound: false },
          },
          rInfinity: {
            isDetermined: map.step !== 0,
            rollouts: { used: 64, needed: 480, isLowerBound: true },
            reference: { used: 32, needed: 20, isLowerBound: false },
          },
          withinRing: {
            isDetermined: true,
            rollouts: { used: 64, needed: 35, isLowerBound: false },
            reference: { used: 32, needed: 20, isLowerBound: false },
          },
        },
        further: [{ name: hostile, value: hostile }],
      },
      conversations: map.points.map(({ i, j, reward }) => ({
        i,
        j,
        conversations: [0, 1, 2].map((prompt) => ({
          reward,
          messages: [
            { role: "user", content: `prompt ${prompt} ${hostile}` },
            { role: "assistant", content: `${i} ${j} ${hostile}` },
          ],
        })),
      })),
    })),
  };
  const page = renderReport(study);
  const scripts = scriptsOf(page);
  const unpackedFrom = (html: string, id: string) => {
    const content = scriptsOf(html).find(({ attributes }) => attributes.includes(`id="${id}"`))?.content ?? "";
    return JSON.parse(inflateRawSync(Buffer.from(content, "base64")).toString("utf8"));
  };
  const json = (id: string) => unpackedFrom(page, id);

  test("is the same bytes for the same study", () => assert.ok(renderReport(structuredClone(study)) === page));

  test("keeps text text, whatever it contains", () => {
    // One script of numbers and drawings, one of conversations for each map, one that runs.
    assert.is(page.match(/<script/g)?.length, study.maps.length + 2);
    assert.is(page.match(/<\/script>/g)?.length, study.maps.length + 2);
    assert.not.match(page, "<script>alert");
    assert.not.match(page, "<!--");
    assert.not.match(page, "<b onclick");
    assert.not.match(page, "\u0000");
    assert.match(page, "<h1>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;!--");
    const said: PageConversations = json("conversations-3");
    const [cell] = study.maps[3].conversations ?? [];
    const found = said.cells[`${cell.i},${cell.j}`];
    assert.equal(
      found.map(({ reward, messages }) => ({
        reward,
        messages: messages.map(([role, text]) => ({ role, content: said.texts[text] })),
      })),
      cell.conversations,
    );
    assert.is(new Set(said.texts).size, said.texts.length, "each text is carried once");
  });

  test("shows sample conversations of training steps, as text, and no section without any", () => {
    assert.not.match(page, "Conversations in training");
    const conversation = { episode: 3, rollout: 0, reward: 0.5, advantage: -1.25 };
    const messages = [
      { role: "user", content: `question ${hostile}` },
      { role: "assistant", content: "answer" },
    ];
    const sampled = renderReport({
      ...base,
      trainingSamples: [
        { step: 30, conversations: [{ ...conversation, messages }] },
        { step: 60, conversations: [] },
      ],
    });
    assert.match(sampled, "<summary>Step 30</summary>");
    assert.not.match(sampled, "<summary>Step 60</summary>");
    assert.match(sampled, "reward 0.50, advantage −1.25");
    assert.match(sampled, "question &lt;/script&gt;");
    assert.not.match(sampled, "<script>alert");
  });

  test("carries the numbers it was given, measured ones with nine digits", () => {
    const data: PageData = json("data");
    assert.equal(data.steps, [0, 5, 10]);
    assert.equal(data.slices, [0, 1]);
    assert.is(data.maps.length, study.maps.length);
    study.maps.forEach((map, k) => {
      const { points, step, slice, n, origin } = data.maps[k];
      assert.equal([step, slice, n], [map.step, map.slice, map.n]);
      for (const key of ["i", "j", "alpha", "beta"] as const)
        assert.equal(
          points[key],
          map.points.map((point) => point[key]),
        );
      for (const key of ["reward", "rewardReach", "klToken", "objective"] as const)
        map.points.forEach(({ [key]: given }, place) => {
          const found = points[key][place];
          if (given === null || given === undefined) assert.is(found, null);
          else assert.ok(found !== null && Math.abs(found - given) <= 5e-9 * Math.abs(given), `${key}: ${found}`);
        });
      assert.equal([points.alpha[origin], points.beta[origin]], [0, 0]);
    });
  });

  test("opens without a network, and only its own script and styles may run", () => {
    const addresses = [...page.matchAll(/(?:https?:)?\/\/[\w.-]+\.\w+[^"'\s)]*/g)].map(([address]) => address);
    assert.equal(new Set(addresses), new Set(["http://www.w3.org/2000/svg"]), "only the name of the SVG namespace");
    assert.not.match(page, /<(link|img|iframe|object|embed)\b/);
    const policy = page.match(/Content-Security-Policy" content="([^"]*)"/)?.[1] ?? "";
    const hash = (text: string) => `&#39;sha256-${createHash("sha256").update(text).digest("base64")}&#39;`;
    const code = scripts.find(({ attributes }) => attributes === "")?.content ?? "";
    assert.match(policy, "default-src &#39;none&#39;");
    assert.ok(policy.includes(`script-src ${hash(code)};`), "the script's hash");
    assert.ok(
      policy.includes(`style-src ${hash(page.match(/<style>([\s\S]*?)<\/style>/)?.[1] ?? "")};`),
      "the style's hash",
    );
    assert.is(typeof new Function(code), "function", "the script is JavaScript once its types are erased");
    assert.not.match(page, / style="/, "inline styles would be refused");
  });

  test("says without a script what must be read: notes, settings, every estimate", () => {
    const written = page.slice(0, page.indexOf('<script type="application'));
    assert.match(written, "undetermined: needs at least 480 prompts (64 used)");
    assert.match(written, "undetermined: needs about 97 prompts (64 used)");
    assert.not.match(written, /about 35|about 20/, "each estimate's own number");
    for (const map of study.maps) {
      const { r } = map.summary;
      assert.match(written, r?.value.toFixed(2).replace("-", "−") ?? "");
      assert.match(written, `step ${map.step}</button>`);
    }
    assert.match(written, "How to read this");
    assert.not.match(written, /\b(?:undefined|NaN|null|\[object)/);
  });

  test("has every map as a figure, one of them shown, so that it can be seen without a script", () => {
    const written = page.slice(0, page.indexOf('<script type="application'));
    const { figures }: PageData = json("data");
    assert.is(figures.length, 6);
    for (const [k, drawings] of figures.entries()) {
      // Three quantities, in the colours of all maps and in their own.
      for (const quantity of ["reward", "kl", "objective"])
        for (const colours of ["shared", "own"])
          assert.match(drawings[`map ${quantity} ${colours}`], `>step ${study.maps[k].step}`);
      for (const name of ["scatter", "noise", "breaks", "common"]) assert.match(drawings[name], /^<svg/);
      for (const drawing of Object.values(drawings)) assert.not.match(drawing, /<script|<b /, "text stays text");
    }
    // The last step's first slice is shown, and small maps of all.
    assert.ok(written.includes(figures[4]["map reward shared"]));
    assert.is(written.match(/class="thumbnail"/g)?.length, 6);
    assert.match(written, /<noscript><p[^>]*>This page needs JavaScript .* the reward map of step 10 is shown/);
    assert.match(
      written,
      '<div id="controls" data-scripted hidden>',
      "what does nothing without a script is not there",
    );
    assert.not.match(written, "<details", "definitions are open, in print too");
  });

  test("marks where a conversation leaves the checkpoint's, by tokens if the run kept them and by words if not", () => {
    const messages = (answer: string) => [
      { role: "user", content: "Count." },
      { role: "assistant", content: answer },
    ];
    const map = base.maps[0];
    const study = (tokenLengths: (answer: string) => number[][] | undefined): Study => {
      const said = (answer: string) => {
        const lengths = tokenLengths(answer);
        return { reward: 1, messages: messages(answer), ...(lengths && { tokenLengths: lengths }) };
      };
      const conversations = map.points.map(({ i, j }) => ({
        i,
        j,
        conversations: [said(i === 3 && j === 3 ? "one two" : i === 0 ? "one three" : i === 1 ? "one" : "one two")],
      }));
      return { ...base, maps: [{ ...map, conversations }] };
    };
    // Tokens: "one", " t", then "wo" or "hree", then the end token, which has no text.
    const tokens = { "one two": [[3, 2, 2, 0]], "one three": [[3, 2, 4, 0]], one: [[3, 0]] } as Record<
      string,
      number[][]
    >;
    const html = renderReport(study((answer) => tokens[answer]));
    const said: PageConversations = unpackedFrom(html, "conversations-0");
    assert.is(said.unit, "tokens");
    assert.equal(said.cells["0,2"][0].differs, [1, 5, 9, 7, 2], "the third token: from 5 to 9, at the checkpoint to 7");
    assert.equal(said.cells["1,2"][0].differs, [1, 3, 3, 5, 1], "the answer ends where the checkpoint's goes on");
    assert.is(said.cells["2,2"][0].differs, null);
    assert.match(html, "48 conversations that were kept");
    const by = { reward: 1, messages: messages("one two") };
    assert.equal(compareConversations({ ...by, messages: messages("one three") }, by), {
      common: { tokens: 1, isSame: false },
      difference: { message: 1, start: 3, end: 9, endAtCheckpoint: 7 },
    });
    assert.match(
      renderReport(study(() => undefined)),
      "This run did not store where tokens end, so words are compared.",
    );
    assert.match(renderReport(base), "This run did not store conversations");
  });

  test("weighs at most 1.5 MB with 16 checkpoints of 441 cells, and says which conversations it leaves out", () => {
    const steps = Array.from({ length: 16 }, (_, k) => 10 * k);
    const large = syntheticStudy(steps, [0], 21);
    const random = seeded(5);
    const answer = () => Array.from({ length: 40 }, () => Math.floor(1e6 * random()).toString(36)).join(" ");
    const maps = large.maps.map((map) => ({
      ...map,
      conversations: map.points.map(({ i, j }) => ({
        i,
        j,
        conversations: [0, 1].map((prompt) => ({
          reward: 0.5,
          // The first prompt's answers are alike, the second's share nothing and cannot be compressed.
          messages: [{ role: "assistant", content: prompt === 0 ? "a b c" : answer() }],
        })),
      })),
    }));
    const html = renderReport({ ...large, maps });
    assert.ok(Buffer.byteLength(html) <= 1.5e6, `${Buffer.byteLength(html)} bytes`);
    assert.match(html, "it has the conversations of 1 of 2 prompts");
    assert.not.match(page, "To keep this page small");
  });

  test("explains a value beyond ±1, and copies tables with all digits", () => {
    const [map] = base.maps;
    const beyond = { value: -1.0234567, low: -1.2, high: -0.8 };
    const html = renderReport({ ...base, maps: [{ ...map, summary: { ...map.summary, rInfinity: beyond } }] });
    assert.match(html, "Beyond −1: too much noise was subtracted.");
    assert.match(html, "†: beyond ±1");
    assert.match(html, 'data-csv="-1.0234567|-1.2|-0.8"');
    assert.not.match(renderReport({ ...base, maps: [syntheticMap(0, 0)] }), "Beyond");
  });

  test("says on top what is not whole and what the task is", () => {
    const gap = "Step 5, slice 0: 9 of 49 cells are measured.";
    const told = renderReport({ ...base, gaps: [gap], task: "Sort <names>." });
    const head = told.slice(told.indexOf("<header"), told.indexOf("</header>"));
    assert.match(head, gap);
    assert.match(head, "Incomplete");
    assert.match(head, "Sort &lt;names&gt;.");
    assert.not.match(renderReport(base), "Incomplete");
  });

  test("shows the directions of every map, and that a grid's centre is not the checkpoint", () => {
    const table = /<table id="direction-shares">[\s\S]*?<\/table>/.exec(page)?.[0] ?? "";
    assert.is(table.match(/<tr>/g)?.length, 1 + 2 * base.maps.length);
    assert.match(table, "<td>gaussian, norm per tensor</td><td>12.5</td><td>70.0%</td><td>30.0%</td><td>–</td>");
    assert.match(
      table,
      "<td>pca, as it is, 61.0% of the variance</td><td>1.00</td><td>–</td><td>75.0%</td><td>25.0%</td><td>0.004</td>",
    );
    assert.match(
      page,
      "The centre of the grid is not the checkpoint.</strong> It is beside it: 1 × the radius along δ.",
    );
    const old = base.maps.map(({ directions: _, ...map }) => map);
    assert.not.match(renderReport({ ...base, maps: old }), "direction-shares");
    const mixed = [...old.slice(0, 2), ...base.maps.slice(2, 4)];
    assert.match(renderReport({ ...base, maps: mixed }), "2 of 4 maps have no such facts.");
  });

  test("shows means over slices and trends where they are given", () => {
    const interval = { value: -0.7, low: -0.8, high: -0.6 };
    const told = renderReport({
      ...base,
      sliceMeans: [{ step: 5, r: interval, rInfinity: interval, withinRing: null }],
      trends: [
        {
          slice: 1,
          steps: [0, 5, 10],
          r: { value: -0.021, low: -0.03, high: -0.01, standardError: 0.004 },
          rInfinity: { value: null, low: null, high: null, standardError: null },
        },
      ],
    });
    assert.match(told, '<tr class="mean">');
    assert.match(told, "fewer than five slices known");
    assert.match(told, "per 10 steps");
    assert.match(told, '−0.21 <span class="range">[−0.30, −0.10]</span>');
    assert.not.match(renderReport(base), "per 10 steps");
  });

  test("shows a value without an interval as such, with the reason", () => {
    const maps = base.maps.map((map) => ({
      ...map,
      summary: { ...map.summary, rInfinity: { value: -0.42, low: null, high: null } },
    }));
    const told = renderReport({ ...base, maps, noInterval: ["Too few prompts."] });
    const cell = 'data-csv="-0.42||">−0.42 <span class="range">(no interval)</span>';
    assert.is(told.split(cell).length - 1, maps.length);
    assert.match(told, /<p class="caption">In brackets: [^<]*(?:<[^p][^<]*)* Too few prompts\./);
    assert.not.match(renderReport(base), "(no interval)");
  });

  test("has every element that its script looks for, once", () => {
    const code = scripts.find(({ attributes }) => attributes === "")?.content ?? "";
    const wanted = new Set(
      [...code.matchAll(/find\s*\("#([\w-]+)"\)|set\("([\w-]+)"/g)].map(([, id, other]) => id ?? other),
    );
    assert.ok(wanted.size >= 12, `${wanted.size} elements`);
    const ids = [...page.slice(0, page.lastIndexOf("<script>")).matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    assert.is(new Set(ids).size, ids.length, "no id twice");
    for (const id of wanted) assert.ok(ids.includes(id), `#${id}`);
  });

  test("is written for a study that has no map yet, and one that has no training", () => {
    assert.match(renderReport({ ...base, maps: [] }), "No landscape has been measured yet");
    assert.match(
      renderReport({ ...base, training: [], settings: [], notes: [], maps: base.maps.slice(0, 1) }),
      'id="map"',
    );
    assert.match(
      renderReport({ ...base, maps: [{ ...base.maps[0], points: [] }] }),
      "No landscape has been measured yet",
    );
  });
});
