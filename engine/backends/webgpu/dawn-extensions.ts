// What Dawn has beyond @webgpu/types: matrices of a subgroup ("matrix units", "tensor cores"), an experimental feature
// whose names may change with Dawn's version. Only this file names them.

/** Matrix products of one subgroup: `subgroupMatrixLoad`, `subgroupMatrixMultiplyAccumulate` and so on in WGSL. */
export const matrixFeature = "chromium-experimental-subgroup-matrix";

/** An entry of the adapter's list of matrix products, as Dawn names its fields. */
export interface DawnMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

declare global {
  interface GPUAdapterInfo {
    /** Empty if the adapter lacks the feature. Undefined in a Dawn that does not know it. */
    readonly subgroupMatrixConfigs?: Iterable<DawnMatrixConfig>;
  }
}
