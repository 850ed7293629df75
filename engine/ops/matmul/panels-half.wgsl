// Four neighbours of a panel in f16, in two words. `at` counts fours.
fn storePanel(at: u32, four: vec4f) { panels[at] = vec2u(halvesOf(four.xy), halvesOf(four.zw)); }
