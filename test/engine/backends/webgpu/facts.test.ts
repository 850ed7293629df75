// What is concluded from an adapter's own words: each fact by itself, whatever the driver is called.
import * as assert from "uvu/assert";
import { type AdapterWords, factsOf, styleOf } from "../../../../engine/backends/webgpu/facts.ts";
import { describe } from "../../../support.ts";

function words(own: Partial<AdapterWords>): AdapterWords {
  return {
    vendor: "",
    architecture: "",
    device: "",
    description: "",
    isFallbackAdapter: false,
    subgroupMinSize: 32,
    subgroupMaxSize: 32,
    ...own,
  };
}

describe("engine/backends/webgpu/facts", (test) => {
  test("kernels follow the width of a processor's subgroups", () => {
    assert.is(styleOf("processor", { least: 8, most: 8 }), "lavapipe");
    assert.is(styleOf("processor", { least: 4, most: 4 }), "swiftshader", "lavapipe on ARM, WARP");
    assert.is(styleOf("processor", { least: 16, most: 16 }), "gpu", "vectors of 512 bits");
    assert.is(styleOf("processor", { least: 4, most: 8 }), "gpu", "a width that may change");
    assert.is(styleOf("processor", null), "gpu", "no subgroups");
    assert.is(styleOf("gpu", { least: 8, most: 8 }), "gpu");
  });

  const software: Record<string, Partial<AdapterWords>> = {
    WARP: { architecture: "warp", device: "Microsoft Basic Render Driver", isFallbackAdapter: true },
    "WARP that does not say it is a fallback": { device: "Microsoft Basic Render Driver" },
    "a software driver that nobody knows": { device: "abacus-3000", isFallbackAdapter: true },
    "lavapipe under another name": { vendor: "mesa", architecture: "software", device: "virtual-device" },
    "lavapipe that does not say it is a fallback": { vendor: "mesa", device: "llvmpipe-llvm-21-512-bits" },
    SwiftShader: { vendor: "google", architecture: "swiftshader", device: "SwiftShader Device (LLVM 10.0.0)" },
  };
  for (const [name, own] of Object.entries(software))
    test(`${name} computes on the processor, in this machine's memory`, () => {
      const { computesOn, memory } = factsOf(words(own), true);
      assert.is(computesOn, "processor");
      assert.is(memory, "host");
    });

  test("a GPU is a GPU, also one whose driver's name speaks of software", () => {
    for (const own of [
      { vendor: "nvidia", architecture: "hopper", device: "nvidia-h200", description: "NVIDIA: 570.133.20" },
      { vendor: "amd", device: "radeon", description: "AMD Software: Adrenalin Edition 25.1" },
    ]) {
      const facts = factsOf(words(own), true);
      assert.equal(facts, {
        computesOn: "gpu",
        memory: "device",
        subgroups: { least: 32, most: 32 },
        style: "gpu",
      });
    }
  });

  test("the facts are separate: a processor with wide or no subgroups keeps its limit of memory", () => {
    const wide = factsOf(words({ isFallbackAdapter: true, subgroupMinSize: 16, subgroupMaxSize: 16 }), true);
    assert.equal(wide, {
      computesOn: "processor",
      memory: "host",
      subgroups: { least: 16, most: 16 },
      style: "gpu",
    });
    const without = factsOf(words({ isFallbackAdapter: true, subgroupMinSize: 8, subgroupMaxSize: 8 }), false);
    assert.equal(without, { computesOn: "processor", memory: "host", subgroups: null, style: "gpu" });
  });
});
