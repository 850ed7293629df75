// Four neighbours of a panel in f32. `at` counts fours.
fn storePanel(at: u32, four: vec4f) { panels[at] = four; }
