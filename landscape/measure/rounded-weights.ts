// The checkpoint's own weights θ as a sweep in f16 reads them: each matrix in f16 panels, written by the kernel that
// writes slots, so that they are the slot of the grid's origin bit for bit. Norms and biases are those of the arena.
import {
  allocateForward,
  type Parameter,
  type ParameterArena,
  perturbIntoSlot,
  type Weights,
  wordsOf,
} from "../../engine/index.ts";

export class RoundedWeights implements Weights {
  readonly dtype = "f32";
  readonly isPerturbed = false;
  readonly operands = "f16";
  readonly #parameters = new Map<string, Parameter>();

  /** The arena must outlive it. */
  constructor(arena: ParameterArena) {
    const matrices = arena.names.filter((name) => isMatrix(arena.value(name).shape));
    const made = allocateForward(
      arena.backend,
      new Map(
        matrices.map((name) => [name, { shape: arena.value(name).shape, isHalf: true, group: arena.groupOf(name) }]),
      ),
    );
    for (const name of arena.names) {
      const tensor = arena.value(name);
      const weight = made.get(name);
      if (weight === undefined) {
        this.#parameters.set(name, { kind: "tensor", tensor, panels: null });
        continue;
      }
      perturbIntoSlot(tensor, weight, {
        ...{ deltaKey: [0, 0], etaKey: [0, 0], nameWords: wordsOf(name) },
        ...{ a: 0, b: 0 },
      });
      this.#parameters.set(name, { kind: "forward", shape: tensor.shape, weight });
    }
  }

  get(name: string): Parameter {
    const found = this.#parameters.get(name);
    if (found === undefined) throw new Error(`RoundedWeights: there is no tensor "${name}"`);
    return found;
  }

  free(): void {
    for (const parameter of this.#parameters.values())
      if (parameter.kind === "forward") parameter.weight.panels?.free();
  }
}

/** Whether a weight is f16 in a sweep in f16: linear layers and embeddings are, norms and biases are not. */
export function isMatrix(shape: readonly number[]): boolean {
  return shape.length === 2;
}
