// What the kernels of a product have in common: those of each tile and operand type, and those for rows of several slots
// (grouped.ts).

/** y = residual + (x · Wᵀ + b) */
export const forwardContract = {
  axes: { rows: "map", panels: "map" },
  bindings: {
    left: { access: "read", axis: "rows" },
    right: { access: "read", axis: "panels" },
    bias: { access: "read" },
    residual: { access: "read", axis: "rows" },
    result: { access: "write", axis: "rows" },
  },
  params: { width: "u32", columns: "u32", hasBias: "u32", hasResidual: "u32" },
} as const;

/** y_i = x · W_iᵀ + b_i for three weights, whose panels follow each other in `right` */
export const tripleContract = {
  axes: { rows: "map" },
  bindings: {
    left: { access: "read", axis: "rows" },
    right: { access: "read" },
    bias: { access: "read" },
    result: { access: "write", axis: "rows" },
    second: { access: "write", axis: "rows" },
    third: { access: "write", axis: "rows" },
  },
  params: {
    width: "u32",
    hasBias: "u32",
    firstColumns: "u32",
    secondColumns: "u32",
    thirdColumns: "u32",
    firstBias: "u32",
    secondBias: "u32",
    thirdBias: "u32",
  },
} as const;

/** y = silu(x · Gᵀ) · (x · Uᵀ), panels of U follow those of G in `right`; `result` holds x · Gᵀ, `up` x · Uᵀ */
export const gatedContract = {
  axes: { rows: "map" },
  bindings: {
    left: { access: "read", axis: "rows" },
    right: { access: "read" },
    result: { access: "update", axis: "rows" },
    up: { access: "write", axis: "rows" },
    y: { access: "write", axis: "rows" },
  },
  params: { width: "u32", columns: "u32", products: "u32" },
} as const;

/** A further binding of kernels for rows of several slots: their tiles (engine/row-tables.ts). */
export const slotBindings = { tiles: { access: "read" } } as const;

/** Their further params: the number of tiles, and the elements from one slot of a weight and of a bias to the next. */
export const slotParams = { tileCount: "u32", rightStride: "u32", biasStride: "u32" } as const;
