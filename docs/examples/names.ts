// Two tasks for GRPO whose answers are checked by a rule: the model gets a few names, and numbers or sorts them (docs/smollm2.md).
import { choice, integer } from "foothold/engine/host";
import { type Episode, labelledRandom, registerEnvironment } from "foothold/rl";

const names = (
  "Abel Ada Alan Alma Amos Anna Ariel Arthur Basil Bella Ben Beth Boris Bruno Carl Carol Cato Celia Clara Colin Cora Cyril " +
  "Daisy Dana David Dean Diana Dora Dylan Edgar Edith Ella Emma Eric Esther Ethan Eva Felix Finn Flora Frank Fred Freya Gary " +
  "George Gina Gloria Grace Grant Hanna Harry Hazel Helen Henry Hugo Ida Igor Irene Iris Isaac Ivan Jack James Jane Jason Jean " +
  "Joan John Julia Karl Kate Keith Kevin Kim Kurt Lara Laura Leo Lewis Lily Linda Lisa Lucas Lucy Mabel Marco Maria Mark Mary " +
  "Max Mia Miles Nadia Naomi Neil Nick Nina Noah Nora Oliver Olga Oscar Owen Pablo Paul Penny Peter Philip Quinn Rachel Ralph " +
  "Rita Robert Rosa Ruth Ryan Sam Sarah Simon Sofia Stella Susan Tara Theo Thomas Tina Tom Uma Ursula Vera Victor Vincent " +
  "Viola Walter Wanda Wendy Will Xenia Yara Yusuf Zara Zoe"
).split(" ");

/** The words before the names, and the right answer. */
const tasks = {
  number: {
    ask: "Write as a numbered list",
    answer: (given: string[]) => given.map((name, i) => `${i + 1}. ${name}`).join("\n"),
  },
  sort: { ask: "Sort these names", answer: (given: string[]) => given.toSorted().join(", ") },
} as const;

/** An answer without its words: two answers of one shape differ in words only. */
const shape = (answer: string): string => answer.replace(/\p{L}+/gu, "name");

registerEnvironment({
  name: "names",
  description: "The model numbers or sorts a few names. Reward: 1 for the right list and nothing else, otherwise 0.",
  settings: {
    task: choice({
      default: "number",
      options: ["number", "sort"],
      meaning: "what to do with the names: number them in the order given, or sort them",
    }),
    count: integer({ default: 3, min: 2, max: 5, unit: "names", meaning: "names in a question" }),
  },
  open: ({ task, count }) => ({
    name: "names",
    *episodes(seed): Generator<Episode> {
      for (let index = 0; ; index++) {
        const random = labelledRandom(`${task}-names|${seed}|${index}`);
        const given = new Set<string>();
        while (given.size < count) given.add(names[random.randint(0, names.length - 1)]);
        const right = tasks[task].answer([...given]);
        yield {
          index,
          prompt: `${tasks[task].ask}: ${[...given].join(", ")}`,
          turns: 1,
          nextUserTurn: () => null,
          score: ([text = ""]) => {
            const answer = text.trim().replace(/\.$/, "");
            const reward = answer === right ? 1 : 0;
            return { reward, parts: { turnScores: [reward], formatFailed: [shape(answer) !== shape(right)] } };
          },
        };
      }
    },
  }),
});
