// foothold with every matrix product starting from Hugging Face's layout [out, in]: packing is part of every run.
import type { Contestant } from "../contestant.ts";
import { contestant } from "./foothold.ts";

export async function open(adapter: string): Promise<Contestant> {
  return contestant(adapter, true);
}
