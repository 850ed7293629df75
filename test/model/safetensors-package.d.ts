// npm's safetensors 0.0.1 comes without types.
declare module "safetensors" {
  class SafeTensor {
    constructor(file: Uint8Array);
    /** By name; offsets count from the start of the file. */
    readonly metadata: Map<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
    getTensor(name: string): Uint8Array;
  }
  const library: { SafeTensor: typeof SafeTensor };
  export default library;
}
