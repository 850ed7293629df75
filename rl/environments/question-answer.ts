// Environments over rows of questions: one question, one answer. GSM8K and data sets by column names are made of it.
import type { Draws, Environment, EnvironmentFile, Score, WorkedEpisode, WorkedTurn } from "./environment.ts";
import { labelledRandom } from "./python/random.ts";

export interface Question {
  readonly systemPrompt?: string;
  readonly prompt: string;
  /** The answer that the data set gives, for the scorer; null if it gives none. */
  readonly answer: string | null;
  /** An answer in the requested form, and the same without it, for supervised training; absent if not known. */
  readonly worked?: Omit<WorkedTurn, "user">;
}

export interface QuestionAnswerOptions {
  readonly name: string;
  readonly source: string;
  readonly files: readonly EnvironmentFile[];
  /** The questions of training. */
  readonly training: readonly Question[];
  /** Those of evaluation and landscape. */
  readonly heldOut: readonly Question[];
  score(completion: string, question: Question, signal: AbortSignal | undefined): Score | Promise<Score>;
  readonly scoresOutside?: boolean;
  /** As `Episode.isBounded`, of `score`. */
  readonly isBounded?: boolean;
}

/**
 * The environment. A seed shuffles the questions; each pass over them has the same order. It has `draw`, for a warm start,
 * if every question of training has a worked answer.
 */
export function questionAnswer(options: QuestionAnswerOptions): Environment {
  const { name, source, files, training, heldOut, score, scoresOutside, isBounded } = options;
  const episodeOf = (question: Question, index: number): WorkedEpisode => ({
    index,
    systemPrompt: question.systemPrompt,
    prompt: question.prompt,
    isBounded,
    score: ([completion = ""], signal) => score(completion, question, signal),
    get workedTurns(): WorkedTurn[] {
      return question.worked === undefined ? [] : [{ user: question.prompt, ...question.worked }];
    },
  });
  const listOf = (questions: readonly Question[], list: string) =>
    function* (seed: number): Generator<WorkedEpisode> {
      const order = questions.map((_, i) => i);
      labelledRandom(`${list}|${seed}`).shuffle(order);
      for (const [index, position] of order.entries()) yield episodeOf(questions[position], index);
    };
  const environment: Environment = {
    ...{ name, source, files, scoresOutside },
    episodes: listOf(training, "training"),
    heldOutEpisodes: listOf(heldOut, "held-out"),
  };
  if (training.some(({ worked }) => worked === undefined)) return environment;
  const draw = (random: Draws, index: number): WorkedEpisode => episodeOf(random.choice(training), index);
  return { ...environment, draw } as Environment;
}
