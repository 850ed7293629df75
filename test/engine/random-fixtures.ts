// What philox.json and random.json hold.
import type { TokenPlace, WordPair, WordQuad } from "../../engine/random.ts";

export interface PhiloxAnswer {
  counter: WordQuad;
  key: WordPair;
  output: WordQuad;
}
export interface PhiloxFixture {
  known: PhiloxAnswer[];
  further: PhiloxAnswer[];
}

export interface RandomFixture {
  words: { word: number; exponential: number; gumbel: number }[];
  quads: { words: WordQuad; normals: number[] }[];
  directions: {
    label: string;
    key: WordPair;
    tensor: string;
    nameWords: WordPair;
    firstElement: number;
    normals: number[];
  }[];
  tokens: (TokenPlace & {
    label: string;
    key: WordPair;
    firstUserMessage: string;
    id: number;
    word: number;
    gumbel: number;
  })[];
}
