// Groups of parameters, by role and, for linear layers, by name. Each parameter is in one group:
//   embedding  the embedding, and the head if it is a tensor of its own
//   norms      scales of norms
//   biases     biases
//   attention  linear layers with "attn" or "attention" in their name
//   mlp        all other linear layers
import { SettingsError } from "../../../engine/host/index.ts";
import type { LanguageModel } from "../../../model/index.ts";
import { type DirectionSettings, type ParameterGroup, parameterGroups } from "../../direction-settings.ts";

export function groupsOf(model: LanguageModel): Map<string, ParameterGroup> {
  const groupOf = (name: string, role: string): ParameterGroup => {
    if (role === "embedding" || name === model.headName()) return "embedding";
    if (role === "norm") return "norms";
    if (role === "bias") return "biases";
    return /attn|attention/.test(name) ? "attention" : "mlp";
  };
  return new Map([...model.parameters()].map(([name, { role }]) => [name, groupOf(name, role)]));
}

/**
 * The tensors that move, in the model's order.
 * @throws SettingsError when none is left, or a pattern matches no tensor
 */
export function movedNames(
  groups: ReadonlyMap<string, ParameterGroup>,
  { groups: chosen, leaveOut }: Pick<DirectionSettings, "groups" | "leaveOut">,
): string[] {
  const patterns = leaveOut.map((pattern) => ({ pattern, matches: matcherOf(pattern) }));
  const idle = patterns.find(({ matches }) => ![...groups.keys()].some((name) => matches.test(name)));
  if (idle !== undefined)
    throw new SettingsError(
      `landscape.directions.leaveOut: ${JSON.stringify(idle.pattern)} matches no parameter of this model. Its parameters have ` +
        `names such as ${[...groups.keys()].slice(0, 3).join(", ")}; * stands for any text.`,
    );
  const names = [...groups]
    .filter(([, group]) => chosen.includes(group))
    .map(([name]) => name)
    .filter((name) => !patterns.some(({ matches }) => matches.test(name)));
  if (names.length === 0)
    throw new SettingsError(
      `landscape.directions: groups ${chosen.join(", ")} without ${leaveOut.join(", ") || "any tensor"} leave no parameter that ` +
        `moves. This model has parameters in ${parameterGroups.filter((one) => [...groups.values()].includes(one)).join(", ")}.`,
    );
  return names;
}

/** "model.layers.0.*" as a regular expression for the whole name. */
function matcherOf(pattern: string): RegExp {
  const parts = pattern.split("*").map((part) => part.replaceAll(/[.\\+?^${}()|[\]]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}
